// Fixed point to E4M3 or E5M2: (-1)^sign * magnitude * 2^-FRACTION, rounded once. ROUNDING and OVERFLOW are those of
// float8_round. Sticky: bits below the last one were cut off and not all of them were 0; exact in nearest-even if
// FRACTION >= 10 (E5M2: 17), for then every threshold is a number of units, toward zero from 9 (16) on. The stochastic
// encoder takes what was cut off as zeros.
module float8_encode #(
    parameter integer E5M2 = 0,
    parameter integer WIDTH = 36,       // 2 to 120
    parameter integer FRACTION = 18,    // 0 to 120
    parameter integer ROUNDING = 0,
    parameter integer OVERFLOW = 0,
    parameter integer RANDOM_BITS = 8
) (
    input  wire                    sign,
    input  wire  [      WIDTH-1:0] magnitude,
    input  wire                    sticky,
    input  wire                    nan,
    input  wire  [RANDOM_BITS-1:0] random,
    output logic [            7:0] code
);
  localparam integer LEVELS = $clog2(WIDTH);
  localparam integer HIGHEST = WIDTH - 1 - FRACTION;
  logic [LEVELS-1:0] shift;
  logic [WIDTH-1:0] significand;

  normalize #(.WIDTH(WIDTH)) leading (.magnitude(magnitude), .shift(shift), .significand(significand));
  wire signed [9:0] exponent = $signed(HIGHEST[9:0]) - $signed({{(10 - LEVELS) {1'b0}}, shift});
  float8_round #(
      .E5M2(E5M2), .WIDTH(WIDTH), .ROUNDING(ROUNDING), .OVERFLOW(OVERFLOW), .RANDOM_BITS(RANDOM_BITS)
  ) round (
      .sign(sign), .nan(nan), .infinite(1'b0), .exponent(exponent), .significand(significand), .sticky(sticky),
      .random(random), .code(code));
endmodule
