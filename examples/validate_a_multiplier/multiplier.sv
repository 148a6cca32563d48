// A stranger's RF8 multiplier.
module multiplier (
    input  wire  [7:0] a,
    input  wire  [7:0] b,
    output wire  [7:0] product
);
  function automatic [4:0] significand(input [2:0] residual);  // in sixteenths
    case (residual)
      3'd0: significand = 5'd12;
      3'd1: significand = 5'd14;
      3'd2: significand = 5'd15;
      3'd3: significand = 5'd16;
      3'd4: significand = 5'd17;
      3'd5: significand = 5'd18;
      3'd6: significand = 5'd20;
      default: significand = 5'd24;
    endcase
  endfunction

  wire [9:0] raw = significand(a[2:0]) * significand(b[2:0]);
  wire [1:0] up = raw[9] ? 2'd0 : raw[8] ? 2'd1 : 2'd2;  // leading zeros
  wire [9:0] normal = raw << up;
  wire signed [6:0] octave = $signed({3'b0, a[6:3]}) + $signed({3'b0, b[6:3]}) - 7'sd14 - $signed({5'b0, up});
  wire [4:0] fraction = normal[8:4];  // five bits below the leading one go to the rounder
  wire rest = 1'b0;

  // The values of an octave are numbered on from the octave below, seven each. Midpoints go to the even number.
  wire even = octave[0];  // the upper value of the second midpoint has an even number, and so on in turn
  wire [6:0] passed = {
    fraction > 30 || (fraction == 30 && (rest || !even)),
    fraction > 26 || (fraction == 26 && (rest || even)),
    fraction > 20 || (fraction == 20 && (rest || !even)),
    fraction > 12 || (fraction == 12 && (rest || even)),
    fraction > 6 || (fraction == 6 && (rest || !even)),
    fraction > 3 || (fraction == 3 && (rest || even)),
    fraction > 1 || (fraction == 1 && (rest || !even))
  };
  wire [2:0] place = passed[0] + passed[1] + passed[2] + passed[3] + passed[4] + passed[5] + passed[6];
  wire signed [9:0] rank = 10'sd7 * octave + 10'sd3 + $signed({7'b0, place});
  wire smallest = octave == -1 || (octave == -2 && (fraction > 24 || (fraction == 24 && rest)));
  wire signed [9:0] kept = rank > 112 ? 10'sd112 : rank > 0 ? rank : smallest ? 10'sd1 : 10'sd0;
  wire [3:0] field = (kept - 1) / 7;
  wire [2:0] residual = (kept - 1) % 7 + 1;
  wire nan = a == 8'h80 || b == 8'h80;
  wire zero = a == 8'h00 || b == 8'h00 || kept == 0;

  assign product = nan ? 8'h80 : zero ? 8'h00 : {a[7] ^ b[7], field, residual};
endmodule
