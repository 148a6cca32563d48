// a + b of two finite float32 numbers, rounded to nearest even, subnormal numbers included; beyond the largest value an
// infinity. A sum that cancels is +0.
module float32_add (
    input  wire  [31:0] a,
    input  wire  [31:0] b,
    output logic [31:0] sum
);
  wire swap = b[30:0] > a[30:0];
  wire [31:0] upper = swap ? b : a;
  wire [31:0] lower = swap ? a : b;
  wire upper_normal = upper[30:23] != 8'd0;
  wire lower_normal = lower[30:23] != 8'd0;
  wire [7:0] exponent = upper[30:23] | {7'd0, !upper_normal};  // subnormal numbers have the smallest normal one's
  wire [7:0] distance = exponent - (lower[30:23] | {7'd0, !lower_normal});

  // Three bits below the last one: two that a cancellation may bring up, and whether there is more.
  wire [26:0] first = {upper_normal, upper[22:0], 3'd0};
  wire [26:0] second = {lower_normal, lower[22:0], 3'd0};
  wire [4:0] shift = distance > 8'd27 ? 5'd27 : distance[4:0];
  wire [53:0] shifted = {second, 27'd0} >> shift;
  wire [26:0] aligned = {shifted[53:28], shifted[27] || shifted[26:0] != 27'd0};
  wire subtract = upper[31] ^ lower[31];
  wire [27:0] total = {1'b0, first} + ({1'b0, aligned} ^ {28{subtract}}) + {27'd0, subtract};

  // Leading one to the top, but not beyond the place of subnormal numbers.
  logic [4:0] zeros;
  logic [27:0] unused;
  normalize #(.WIDTH(28)) leading (.magnitude(total), .shift(zeros), .significand(unused));
  wire low = {3'd0, zeros} > exponent;
  wire [4:0] up = low ? exponent[4:0] : zeros;
  wire [27:0] placed = total << up;
  // An exponent field of 0 if there is no leading one.
  wire [8:0] field = placed[27] ? {1'b0, exponent} + 9'd1 - {4'd0, up} : 9'd0;
  wire round_up = placed[3] && (placed[4] || placed[2:0] != 3'd0);
  wire [31:0] rounded = {field, placed[26:4]} + {31'd0, round_up};
  wire beyond = rounded[31:23] >= 9'd255;
  wire zero = total == 28'd0;
  wire sign = zero ? a[31] && b[31] : upper[31];
  assign sum = {sign, beyond ? 31'h7f800000 : rounded[30:0]};
endmodule
