// Multiply-accumulate of RF8 codes, exact: sum * 2^-38 in two's complement. See exact_accumulator for overflow; if nan,
// a NaN was among the operands and the sum means nothing.
module rf8_mac #(
    parameter integer GUARD = 8  // 2^GUARD products always fit
) (
    input  wire                       clk,
    input  wire                       clear,
    input  wire                       valid,
    input  wire         [        7:0] a,
    input  wire         [        7:0] b,
    output logic signed [40+GUARD:0]  sum,
    output logic                      overflow,
    output logic                      nan
);
  logic sign, nan_product;
  logic [39:0] magnitude;

  rf8_multiply_exact multiply (.a(a), .b(b), .sign(sign), .magnitude(magnitude), .nan(nan_product));
  exact_accumulator #(.PRODUCT(40), .GUARD(GUARD)) accumulator (
      .clk(clk), .clear(clear), .valid(valid), .addend({1'b0, magnitude} ^ {41{sign}}), .carry(sign),
      .nan_in(nan_product), .sum(sum), .overflow(overflow), .nan(nan));
endmodule
