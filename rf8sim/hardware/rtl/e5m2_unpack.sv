// The fields of an E5M2 code: value = (-1)^sign * significand * 2^(exponent - 16), subnormals included. If nan or
// infinite, exponent and significand mean nothing.
module e5m2_unpack (
    input  wire  [7:0] code,
    output logic       sign,
    output logic [4:0] exponent,     // 0 to 29
    output logic [2:0] significand,
    output logic       infinite,
    output logic       nan
);
  wire normal = code[6:2] != 5'd0;
  wire special = code[6:2] == 5'd31;

  assign sign = code[7];
  assign exponent = code[6:2] - {4'd0, normal};
  assign significand = {normal, code[1:0]};
  assign infinite = special && code[1:0] == 2'd0;
  assign nan = special && code[1:0] != 2'd0;
endmodule
