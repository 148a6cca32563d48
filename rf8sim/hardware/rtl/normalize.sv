// Leading one to the left: significand = magnitude << shift, with its top bit set; 0 for magnitude 0.
module normalize #(
    parameter integer WIDTH = 40  // at least 2
) (
    input  wire  [        WIDTH-1:0] magnitude,
    output logic [$clog2(WIDTH)-1:0] shift,
    output logic [        WIDTH-1:0] significand
);
  localparam integer LEVELS = $clog2(WIDTH);

  generate
    genvar level;
    for (level = LEVELS - 1; level >= 0; level = level - 1) begin : stage  // a bit of the shift, the largest first
      localparam integer STEP = 1 << level;
      wire [WIDTH-1:0] given;
      wire empty = given[WIDTH-1-:STEP] == {STEP{1'b0}};
      wire [WIDTH-1:0] shifted = empty ? given << STEP : given;
      assign shift[level] = empty;
      if (level == LEVELS - 1) begin : first
        assign given = magnitude;
      end else begin : later
        assign given = stage[level+1].shifted;
      end
    end
  endgenerate
  assign significand = stage[0].shifted;
endmodule
