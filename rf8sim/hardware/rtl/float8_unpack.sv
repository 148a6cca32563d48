// The fields of an E4M3 or E5M2 code: value = (-1)^sign * significand * 2^(exponent - BIAS), BIAS 9 for E4M3 and 17
// for E5M2, subnormals included. If nan or infinite, exponent and significand mean nothing.
module float8_unpack #(
    parameter integer E5M2 = 0
) (
    input  wire  [7:0] code,
    output logic       sign,
    output logic [4:0] exponent,
    output logic [3:0] significand,
    output logic       infinite,
    output logic       nan
);
  generate
    if (E5M2 != 0) begin : e5m2
      wire [2:0] part;
      e5m2_unpack unpack (
          .code(code), .sign(sign), .exponent(exponent), .significand(part), .infinite(infinite), .nan(nan));
      assign significand = {part, 1'b0};
    end else begin : e4m3
      wire [3:0] part;
      e4m3_unpack unpack (.code(code), .sign(sign), .exponent(part), .significand(significand), .nan(nan));
      assign exponent = {1'b0, part};
      assign infinite = 1'b0;
    end
  endgenerate
endmodule
