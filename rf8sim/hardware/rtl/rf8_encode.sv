// Fixed point to RF8: (-1)^sign * magnitude * 2^-FRACTION, rounded once.
// Sticky: bits below the last one were cut off and not all of them were 0. Exact in nearest-even if FRACTION >= 20,
// for then every threshold is a number of units; in residual no cut input can be rounded exactly, and sticky is not
// looked at: give all bits.
module rf8_encode #(
    parameter integer WIDTH = 40,     // 2 to 120
    parameter integer FRACTION = 38,  // 0 to 120
    parameter RESIDUAL = 0,           // 0 nearest-even, 1 residual
    parameter NAN_OVERFLOW = 0        // beyond the largest value: 0 saturates, 1 makes NaN
) (
    input  wire              sign,
    input  wire  [WIDTH-1:0] magnitude,
    input  wire              sticky,
    input  wire              nan,
    output logic [      7:0] code
);
  logic signed [8:0] octave;
  logic [WIDTH-1:0] significand;

  rf8_normalize #(.WIDTH(WIDTH), .FRACTION(FRACTION)) normalize (
      .magnitude(magnitude), .octave(octave), .significand(significand));
  rf8_round #(.WIDTH(WIDTH), .RESIDUAL(RESIDUAL), .NAN_OVERFLOW(NAN_OVERFLOW)) round (
      .sign(sign), .nan(nan), .octave(octave), .significand(significand), .sticky(sticky), .code(code));
endmodule
