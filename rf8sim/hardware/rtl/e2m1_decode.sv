// E2M1 code to sign and fixed point: value = (-1)^sign * magnitude / 2. Every code is a number.
module e2m1_decode (
    input  wire  [3:0] code,
    output logic       sign,
    output logic [3:0] magnitude
);
  wire normal = code[2:1] != 2'd0;
  assign sign = code[3];
  assign magnitude = {2'd0, normal, code[0]} << (code[2:1] - {1'b0, normal});
endmodule
