// The fields of an RF8 code: value = (-1)^sign * significand * 2^(exponent - 19), significand = 16 m (12 to 24).
// Zero and NaN have significand 0. An alias (r = 0, E >= 1) has its value.
module rf8_unpack (
    input  wire  [7:0] code,
    output logic       sign,
    output logic [3:0] exponent,
    output logic [4:0] significand,
    output logic       nan
);
  wire [2:0] residual = code[2:0];  // t + 3

  assign sign = code[7];
  assign exponent = code[6:3];
  assign nan = code == 8'h80;

  always_comb begin
    case (residual)
      3'd0: significand = (exponent == 4'd0) ? 5'd0 : 5'd12;
      3'd1: significand = 5'd14;
      3'd2: significand = 5'd15;
      3'd3: significand = 5'd16;
      3'd4: significand = 5'd17;
      3'd5: significand = 5'd18;
      3'd6: significand = 5'd20;
      default: significand = 5'd24;
    endcase
  end
endmodule
