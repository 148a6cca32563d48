// The exact product of one lane of dot_product, as an addend in one's complement and the carry that completes it.
module dot_lane #(
    parameter integer WEIGHT = 0,
    parameter integer INT8 = 1,
    parameter integer BITS_A = 8,
    parameter integer BITS_B = 8,
    parameter integer PRODUCT = 28
) (
    input  wire  [ BITS_A-1:0] a,
    input  wire  [ BITS_B-1:0] b,
    output logic [PRODUCT-1:0] addend,
    output logic               carry,
    output logic               nan
);
  generate
    if (WEIGHT == 2) begin : int8
      int8_multiply multiply (.a(a), .b(b), .product(addend));
      assign {carry, nan} = 2'b00;
    end else if (WEIGHT == 3) begin : e2m1
      wire sign_a;
      wire [3:0] magnitude_a;
      e2m1_decode decode_a (.code(a), .sign(sign_a), .magnitude(magnitude_a));
      if (INT8 != 0) begin : mixed
        wire signed [4:0] factor = $signed({1'b0, magnitude_a} ^ {5{sign_a}}) + $signed({4'd0, sign_a});
        wire signed [12:0] product = factor * $signed(b);
        assign addend = product[11:0];  // at most 12 * 128
        assign carry = 1'b0;
      end else begin : same
        wire sign_b;
        wire [3:0] magnitude_b;
        e2m1_decode decode_b (.code(b), .sign(sign_b), .magnitude(magnitude_b));
        wire [7:0] product = magnitude_a * magnitude_b;
        assign carry = sign_a ^ sign_b;
        assign addend = {1'b0, product} ^ {9{carry}};
      end
      assign nan = 1'b0;
    end else if (INT8 != 0) begin : mixed
      if (WEIGHT == 0) begin : rf8
        rf8_times_int8 multiply (.weight(a), .activation(b), .product(addend), .nan(nan));
      end else begin : e4m3
        e4m3_times_int8 multiply (.weight(a), .activation(b), .product(addend), .nan(nan));
      end
      assign carry = 1'b0;
    end else begin : same
      wire [PRODUCT-2:0] magnitude;
      if (WEIGHT == 0) begin : rf8
        rf8_multiply_exact multiply (.a(a), .b(b), .sign(carry), .magnitude(magnitude), .nan(nan));
      end else begin : e4m3
        e4m3_multiply_exact multiply (.a(a), .b(b), .sign(carry), .magnitude(magnitude), .nan(nan));
      end
      assign addend = {1'b0, magnitude} ^ {PRODUCT{carry}};
    end
  endgenerate
endmodule
