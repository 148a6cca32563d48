// The fields of an E4M3 code (OCP, finite and NaN): value = (-1)^sign * significand * 2^(exponent - 9), subnormals
// included. If nan, the rest means nothing.
module e4m3_unpack (
    input  wire  [7:0] code,
    output logic       sign,
    output logic [3:0] exponent,     // 0 to 14
    output logic [3:0] significand,
    output logic       nan
);
  wire normal = code[6:3] != 4'd0;

  assign sign = code[7];
  assign exponent = code[6:3] - {3'd0, normal};
  assign significand = {normal, code[2:0]};
  assign nan = code[6:0] == 7'h7f;
endmodule
