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
  localparam signed [8:0] HIGHEST = WIDTH - 1 - FRACTION + 15;

  wire [WIDTH*(LEVELS+1)-1:0] stages;  // the last one first
  wire [LEVELS-1:0] shift;             // how far to the left, a bit a stage

  assign stages[WIDTH*LEVELS+:WIDTH] = magnitude;
  generate
    genvar level;
    for (level = 0; level < LEVELS; level = level + 1) begin : halve
      localparam integer STEP = 1 << level;
      wire [WIDTH-1:0] given = stages[WIDTH*(level+1)+:WIDTH];
      assign shift[level] = given[WIDTH-1-:STEP] == {STEP{1'b0}};
      assign stages[WIDTH*level+:WIDTH] = shift[level] ? given << STEP : given;
    end
  endgenerate
  assign significand = stages[WIDTH-1:0];
  assign octave = HIGHEST - $signed({{(9 - LEVELS) {1'b0}}, shift});
endmodule
