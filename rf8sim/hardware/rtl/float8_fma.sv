// a * b + c in float32, rounded once to nearest even: a and b are E4M3 or E5M2 codes, c is float32. The product is
// exact, subnormal numbers count as what they are, NaN gives 7fc00000, and a sum that cancels is +0.
module float8_fma #(
    parameter integer A_E5M2 = 0,  // 0 E4M3, 1 E5M2
    parameter integer B_E5M2 = 0
) (
    input  wire  [ 7:0] a,
    input  wire  [ 7:0] b,
    input  wire  [31:0] c,
    output logic [31:0] result
);
  // value of a product = significand * 2^(exponent - BIAS)
  localparam integer BIAS = (A_E5M2 != 0 ? 17 : 9) + (B_E5M2 != 0 ? 17 : 9);
  localparam integer FIELD = 127 + 7 - BIAS;  // of float32, for a product whose significand has all 8 bits

  logic sign_a, sign_b, infinite_a, infinite_b, nan_a, nan_b;
  logic [4:0] exponent_a, exponent_b;
  logic [3:0] significand_a, significand_b;
  float8_unpack #(.E5M2(A_E5M2)) unpack_a (
      .code(a), .sign(sign_a), .exponent(exponent_a), .significand(significand_a), .infinite(infinite_a), .nan(nan_a));
  float8_unpack #(.E5M2(B_E5M2)) unpack_b (
      .code(b), .sign(sign_b), .exponent(exponent_b), .significand(significand_b), .infinite(infinite_b), .nan(nan_b));

  // The product as a float32 number: always normal, or zero.
  wire product_sign = sign_a ^ sign_b;
  wire [7:0] exact = significand_a * significand_b;
  logic [2:0] shift;
  logic [7:0] normalized;
  normalize #(.WIDTH(8)) leading (.magnitude(exact), .shift(shift), .significand(normalized));
  wire product_zero = !normalized[7];
  wire [7:0] product_field = product_zero ? 8'd0 : FIELD[7:0] + {3'd0, exponent_a} + {3'd0, exponent_b} - {5'd0, shift};
  wire product_infinite = infinite_a || infinite_b;
  wire c_special = c[30:23] == 8'hff;
  wire c_infinite = c_special && c[22:0] == 23'd0;
  wire a_zero = !infinite_a && significand_a == 4'd0;
  wire b_zero = !infinite_b && significand_b == 4'd0;
  wire nan = nan_a || nan_b || (c_special && !c_infinite)
      || (infinite_a && b_zero) || (infinite_b && a_zero)
      || (product_infinite && c_infinite && product_sign != c[31]);

  logic [31:0] sum;
  float32_add add (.a({product_sign, product_field, normalized[6:0], 16'd0}), .b(c), .sum(sum));

  assign result = nan ? 32'h7fc00000 : product_infinite ? {product_sign, 31'h7f800000} : c_infinite ? c : sum;
endmodule
