// The product of two RF8 codes as an RF8 code, rounded once. rf8_multiply_table is the same by looking it up.
module rf8_multiply #(
    parameter RESIDUAL = 0,     // 0 nearest-even, 1 residual
    parameter NAN_OVERFLOW = 0  // beyond the largest value: 0 saturates, 1 makes NaN
) (
    input  wire  [7:0] a,
    input  wire  [7:0] b,
    output logic [7:0] code
);
  logic sign, nan;
  logic [9:0] significand;
  logic [4:0] exponent;
  rf8_product product (.a(a), .b(b), .sign(sign), .significand(significand), .exponent(exponent), .nan(nan));

  // A product of significands is 0 or from 144 to 576: its leading one is bit 7, 8 or 9.
  wire [9:0] normalized = significand[9] ? significand : significand[8] ? significand << 1 : significand << 2;
  wire [1:0] shift = significand[9] ? 2'd0 : significand[8] ? 2'd1 : 2'd2;
  wire signed [8:0] octave = $signed({4'd0, exponent}) - $signed({7'd0, shift}) - 9'sd14;

  rf8_round #(.WIDTH(10), .RESIDUAL(RESIDUAL), .NAN_OVERFLOW(NAN_OVERFLOW)) round (
      .sign(sign), .nan(nan), .octave(octave), .significand(normalized), .sticky(1'b0), .code(code));
endmodule
