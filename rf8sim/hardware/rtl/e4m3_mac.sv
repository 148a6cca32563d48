// Multiply-accumulate of E4M3 codes, exact: sum * 2^-18 in two's complement. As rf8_mac otherwise.
module e4m3_mac #(
    parameter integer GUARD = 8
) (
    input  wire                       clk,
    input  wire                       clear,
    input  wire                       valid,
    input  wire         [        7:0] a,
    input  wire         [        7:0] b,
    output logic signed [36+GUARD:0]  sum,
    output logic                      overflow,
    output logic                      nan
);
  logic sign, nan_product;
  logic [35:0] magnitude;

  e4m3_multiply_exact multiply (.a(a), .b(b), .sign(sign), .magnitude(magnitude), .nan(nan_product));
  exact_accumulator #(.PRODUCT(36), .GUARD(GUARD)) accumulator (
      .clk(clk), .clear(clear), .valid(valid), .addend({1'b0, magnitude} ^ {37{sign}}), .carry(sign),
      .nan_in(nan_product), .sum(sum), .overflow(overflow), .nan(nan));
endmodule
