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
  logic [31:0] next;
  integer step;

  always_comb begin
    next = word;
    for (step = 0; step < STEPS; step = step + 1)
      next = (next >> 1) ^ ((next & 32'd1) != 32'd0 ? 32'h80200003 : 32'd0);
  end

  always_ff @(posedge clk) begin
    if (load) word <= (seed == 32'd0) ? 32'd1 : seed;
    else if (advance) word <= next;
  end
endmodule
