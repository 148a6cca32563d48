// A register of a pipeline, or a wire if not ON.
module pipe #(
    parameter integer WIDTH = 8,
    parameter ON = 1
) (
    input  wire              clk,
    input  wire  [WIDTH-1:0] d,
    output logic [WIDTH-1:0] q
);
  generate
    if (ON != 0) begin : register
      always_ff @(posedge clk) q <= d;
    end else begin : connection
      assign q = d;
    end
  endgenerate
endmodule
