// The exact product of two E4M3 codes: value = (-1)^sign * significand * 2^(exponent - 18). If nan, the rest means
// nothing.
module e4m3_product (
    input  wire  [7:0] a,
    input  wire  [7:0] b,
    output logic       sign,
    output logic [7:0] significand,
    output logic [4:0] exponent,     // 0 to 28
    output logic       nan
);
  logic sign_a, sign_b, nan_a, nan_b;
  logic [3:0] exponent_a, exponent_b, significand_a, significand_b;

  e4m3_unpack unpack_a (
      .code(a), .sign(sign_a), .exponent(exponent_a), .significand(significand_a), .nan(nan_a));
  e4m3_unpack unpack_b (
      .code(b), .sign(sign_b), .exponent(exponent_b), .significand(significand_b), .nan(nan_b));
  assign nan = nan_a || nan_b;
  assign sign = sign_a ^ sign_b;
  assign exponent = {1'b0, exponent_a} + {1'b0, exponent_b};
  assign significand = significand_a * significand_b;
endmodule
