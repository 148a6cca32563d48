// An RF8 weight times an INT8 activation, exact: value = product * 2^-19, in two's complement. Product 0 if nan.
// 16 x and x shifted by log2|t| are added or subtracted; the sign of the weight turns both round.
module rf8_times_int8 (
    input  wire         [ 7:0] weight,
    input  wire  signed [ 7:0] activation,
    output logic signed [27:0] product,
    output logic               nan
);
  wire zero = weight[6:0] == 7'd0;
  wire negative = weight[7];
  wire [2:0] residual = weight[2:0];  // t + 3
  wire turned = negative ^ (residual < 3'd3);
  assign nan = weight == 8'h80;

  wire signed [13:0] x = zero ? 14'sd0 : {{6{activation[7]}}, activation};
  logic signed [13:0] shifted;  // x times |t|
  always_comb begin
    case (residual)
      3'd2, 3'd4: shifted = x;
      3'd1, 3'd5: shifted = x <<< 1;
      3'd0, 3'd6: shifted = x <<< 2;
      3'd7: shifted = x <<< 3;
      default: shifted = 14'sd0;
    endcase
  end
  wire signed [13:0] first = (x <<< 4) ^ {14{negative}};
  wire signed [13:0] second = shifted ^ {14{turned}};
  wire signed [13:0] sum = first + second + $signed({12'd0, negative && turned, negative ^ turned});
  assign product = {{14{sum[13]}}, sum} <<< weight[6:3];
endmodule
