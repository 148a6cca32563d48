// Multiply-accumulate of E4M3 weights and INT8 activations, exact: sum * 2^-9. As rf8_mac otherwise.
module e4m3_int8_mac #(
    parameter integer GUARD = 8
) (
    input  wire                       clk,
    input  wire                       clear,
    input  wire                       valid,
    input  wire         [        7:0] weight,
    input  wire  signed [        7:0] activation,
    output logic signed [25+GUARD:0]  sum,
    output logic                      overflow,
    output logic                      nan
);
  logic nan_product;
  logic signed [25:0] product;

  e4m3_times_int8 multiply (.weight(weight), .activation(activation), .product(product), .nan(nan_product));
  exact_accumulator #(.PRODUCT(25), .GUARD(GUARD)) accumulator (
      .clk(clk), .clear(clear), .valid(valid), .addend(product), .carry(1'b0), .nan_in(nan_product), .sum(sum),
      .overflow(overflow), .nan(nan));
endmodule
