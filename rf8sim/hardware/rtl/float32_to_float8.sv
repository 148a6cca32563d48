// A float32 number to E4M3 or E5M2, rounded once. ROUNDING and OVERFLOW are those of float8_round. Subnormal float32
// numbers are far below half of the smallest value, and below the last bit of the share that a draw sees: they give zero.
module float32_to_float8 #(
    parameter integer E5M2 = 0,
    parameter integer ROUNDING = 0,
    parameter integer OVERFLOW = 0,
    parameter integer RANDOM_BITS = 8
) (
    input  wire  [           31:0] x,
    input  wire  [RANDOM_BITS-1:0] random,  // for ROUNDING 2 only
    output logic [            7:0] code
);
  wire [7:0] field = x[30:23];
  wire special = field == 8'hff;
  wire normal = field != 8'd0;
  float8_round #(
      .E5M2(E5M2), .WIDTH(24), .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .RANDOM_BITS(RANDOM_BITS)
  ) round (
      .sign(x[31]), .nan(special && x[22:0] != 23'd0), .infinite(special && x[22:0] == 23'd0),
      .exponent($signed({2'd0, field}) - 10'sd127), .significand(normal ? {1'b1, x[22:0]} : 24'd0), .sticky(1'b0),
      .random(random), .code(code));
endmodule
