// A 32-bit Galois LFSR of maximal length, x^32 + x^22 + x^2 + x + 1, that advances STEPS steps a clock: with STEPS at
// least the number of bits that are used, no bit of one word is seen in the next. A seed of 0 is taken as 1.
module lfsr #(
    parameter integer STEPS = 32
) (
    input  wire         clk,
    input  wire         load,
    input  wire  [31:0] seed,
    input  wire         advance,
    output logic [31:0] word
);
  wire [31:0] next;
  generate
    genvar step;
    for (step = 0; step < STEPS; step = step + 1) begin : steps
      wire [31:0] earlier;
      wire [31:0] through = {1'b0, earlier[31:1]} ^ (earlier[0] ? 32'h80200003 : 32'd0);
      if (step == 0) begin : first
        assign earlier = word;
      end else begin : later
        assign earlier = steps[step-1].through;
      end
    end
  endgenerate
  assign next = steps[STEPS-1].through;

  always_ff @(posedge clk) begin
    if (load) word <= (seed == 32'd0) ? 32'd1 : seed;
    else if (advance) word <= next;
  end
endmodule
