// Multiply-accumulate of INT8 numbers, exact. As rf8_mac otherwise; there is no NaN.
module int8_mac #(
    parameter integer GUARD = 8
) (
    input  wire                       clk,
    input  wire                       clear,
    input  wire                       valid,
    input  wire  signed [        7:0] a,
    input  wire  signed [        7:0] b,
    output logic signed [15+GUARD:0]  sum,
    output logic                      overflow
);
  logic signed [15:0] product;
  logic nan;

  int8_multiply multiply (.a(a), .b(b), .product(product));
  exact_accumulator #(.PRODUCT(15), .GUARD(GUARD)) accumulator (
      .clk(clk), .clear(clear), .valid(valid), .addend(product), .carry(1'b0), .nan_in(1'b0), .sum(sum),
      .overflow(overflow), .nan(nan));
endmodule
