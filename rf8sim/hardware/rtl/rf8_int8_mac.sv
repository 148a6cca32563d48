// Multiply-accumulate of RF8 weights and INT8 activations, exact: sum * 2^-19. As rf8_mac otherwise.
module rf8_int8_mac #(
    parameter integer GUARD = 8
) (
    input  wire                       clk,
    input  wire                       clear,
    input  wire                       valid,
    input  wire         [        7:0] weight,
    input  wire  signed [        7:0] activation,
    output logic signed [27+GUARD:0]  sum,
    output logic                      overflow,
    output logic                      nan
);
  logic nan_product;
  logic signed [27:0] product;

  rf8_times_int8 multiply (.weight(weight), .activation(activation), .product(product), .nan(nan_product));
  exact_accumulator #(.PRODUCT(27), .GUARD(GUARD)) accumulator (
      .clk(clk), .clear(clear), .valid(valid), .addend(product), .carry(1'b0), .nan_in(nan_product), .sum(sum),
      .overflow(overflow), .nan(nan));
endmodule
