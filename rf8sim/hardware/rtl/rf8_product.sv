// The exact product of two RF8 codes by one addition: one significand is 16 + t, so the product is the other one
// shifted by 4 and the other one shifted by log2|t|, added or subtracted.
// value = (-1)^sign * significand * 2^(exponent - 38). If nan, the rest means nothing.
module rf8_product (
    input  wire  [7:0] a,
    input  wire  [7:0] b,
    output logic       sign,
    output logic [9:0] significand,
    output logic [4:0] exponent,
    output logic       nan
);
  logic sign_a, nan_a;
  logic [3:0] exponent_a;
  logic [4:0] significand_a;

  rf8_unpack unpack (.code(a), .sign(sign_a), .exponent(exponent_a), .significand(significand_a), .nan(nan_a));
  assign nan = nan_a || b == 8'h80;
  assign sign = sign_a ^ b[7];
  assign exponent = {1'b0, exponent_a} + {1'b0, b[6:3]};

  wire [2:0] residual = b[2:0];  // t + 3
  wire subtract = residual < 3'd3;
  logic [7:0] shifted;  // the first significand times |t|
  always_comb begin
    case (residual)
      3'd2, 3'd4: shifted = {3'b0, significand_a};
      3'd1, 3'd5: shifted = {2'b0, significand_a, 1'b0};
      3'd0, 3'd6: shifted = {1'b0, significand_a, 2'b0};
      3'd7: shifted = {significand_a, 3'b0};
      default: shifted = 8'd0;
    endcase
  end
  wire [9:0] sum = {1'b0, significand_a, 4'd0} + ({2'b0, shifted} ^ {10{subtract}}) + {9'd0, subtract};
  assign significand = b[6:0] == 7'd0 ? 10'd0 : sum;
endmodule
