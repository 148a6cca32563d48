// Leading one to the left: magnitude * 2^-FRACTION = significand * 2^(octave - 15 - (WIDTH - 1)) with the top bit of
// the significand set. Octave is the exponent field of the RF8 values in [2^k, 2^(k+1)) that the magnitude lies in;
// it may lie outside 0..15. Significand 0 for magnitude 0.
module rf8_normalize #(
    parameter integer WIDTH = 40,     // 2 to 120
    parameter integer FRACTION = 38   // 0 to 120
) (
    input  wire         [WIDTH-1:0] magnitude,
    output logic signed [      8:0] octave,
    output logic        [WIDTH-1:0] significand
);
  localparam integer LEVELS = $clog2(WIDTH);
  localparam integer HIGHEST = WIDTH - 1 - FRACTION + 15;

  logic [LEVELS-1:0] shift;
  normalize #(.WIDTH(WIDTH)) leading (.magnitude(magnitude), .shift(shift), .significand(significand));
  assign octave = $signed(HIGHEST[8:0]) - $signed({{(9 - LEVELS) {1'b0}}, shift});
endmodule
