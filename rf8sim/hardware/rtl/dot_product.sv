// The exact sum of LANES products in fixed point, two's complement: no sum overflows. If nan, an operand was one and the
// sum means nothing. Lane 0 is in the lowest bits.
// WEIGHT   0 RF8, 1 E4M3, 2 INT8, 3 E2M1 (codes of 4 bits); the other operands are INT8 if INT8, else of this format.
//          The last place of the sum is 2^-19, 2^-9, 1, 2^-1 with INT8, and 2^-38, 2^-18, 1, 2^-2 without.
// SCALED   operands are MX blocks: the sum is to be multiplied by 2^exponent, of two E8M0 scales, and is NaN if a scale
//          is. Without, scales are not looked at and exponent is 0.
// STAGES   registers on the way: 0 none, 1 of the sum, 2 of the products too, 3 of the sums of four too.
module dot_product #(
    parameter integer LANES = 16,  // a multiple of 4
    parameter integer WEIGHT = 0,
    parameter integer INT8 = 1,
    parameter integer SCALED = 0,
    parameter integer STAGES = 0,
    // These follow from the ones above.
    parameter integer BITS_A = WEIGHT == 3 ? 4 : 8,
    parameter integer BITS_B = WEIGHT == 3 && INT8 == 0 ? 4 : 8,
    parameter integer PRODUCT = WEIGHT == 2 ? 16 : INT8 != 0 ? (WEIGHT == 0 ? 28 : WEIGHT == 1 ? 26 : 12)
        : (WEIGHT == 0 ? 41 : WEIGHT == 1 ? 37 : 9),
    parameter integer WIDTH = PRODUCT + $clog2(LANES)
) (
    input  wire                      clk,
    input  wire  [LANES*BITS_A-1:0]  a,
    input  wire  [LANES*BITS_B-1:0]  b,
    input  wire  [             7:0]  scale_a,
    input  wire  [             7:0]  scale_b,
    output logic [       WIDTH-1:0]  sum,
    output logic [             9:0]  exponent,
    output logic                     nan
);
  localparam integer GROUPS = LANES / 4;
  localparam integer PART = PRODUCT + 2;

  wire [9:0] scale = SCALED != 0 ? {2'd0, scale_a} + {2'd0, scale_b} - 10'd254 : 10'd0;
  wire nan_scale = SCALED != 0 && (scale_a == 8'hff || scale_b == 8'hff);

  wire [LANES*PRODUCT-1:0] addends, products;
  wire [LANES-1:0] carries, rests, nans;
  wire [9:0] scale_1, scale_2;
  wire nan_1, nan_2;
  generate
    genvar lane;
    for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
      dot_lane #(.WEIGHT(WEIGHT), .INT8(INT8), .BITS_A(BITS_A), .BITS_B(BITS_B), .PRODUCT(PRODUCT)) multiply (
          .a(a[lane*BITS_A+:BITS_A]), .b(b[lane*BITS_B+:BITS_B]), .addend(addends[lane*PRODUCT+:PRODUCT]),
          .carry(carries[lane]), .nan(nans[lane]));
    end
  endgenerate
  pipe #(.WIDTH(LANES * (PRODUCT + 1) + 11), .ON(STAGES >= 2)) first (
      .clk(clk), .d({addends, carries, scale, nan_scale || nans != 0}), .q({products, rests, scale_1, nan_1}));

  wire [GROUPS*PART-1:0] quarters, parts;
  generate
    for (lane = 0; lane < LANES; lane = lane + 1) begin : sums  // of a lane and those before it in its group
      wire [PART-1:0] earlier;
      wire [PRODUCT-1:0] product = products[lane*PRODUCT+:PRODUCT];
      wire [PART-1:0] through = earlier + {{2{product[PRODUCT-1]}}, product} + {{(PART - 1) {1'b0}}, rests[lane]};
      if (lane % 4 == 0) begin : first
        assign earlier = {PART{1'b0}};
      end else begin : later
        assign earlier = sums[lane-1].through;
      end
      if (lane % 4 == 3) begin : last
        assign quarters[lane/4*PART+:PART] = through;
      end
    end
  endgenerate
  pipe #(.WIDTH(GROUPS * PART + 11), .ON(STAGES >= 3)) second (
      .clk(clk), .d({quarters, scale_1, nan_1}), .q({parts, scale_2, nan_2}));

  wire [WIDTH-1:0] total;
  generate
    genvar group;
    for (group = 0; group < GROUPS; group = group + 1) begin : totals
      wire [WIDTH-1:0] earlier;
      wire [PART-1:0] part = parts[group*PART+:PART];
      wire [WIDTH-1:0] through = earlier + {{(WIDTH - PART) {part[PART-1]}}, part};
      if (group == 0) begin : first
        assign earlier = {WIDTH{1'b0}};
      end else begin : later
        assign earlier = totals[group-1].through;
      end
    end
  endgenerate
  assign total = totals[GROUPS-1].through;
  pipe #(.WIDTH(WIDTH + 11), .ON(STAGES >= 1)) last (
      .clk(clk), .d({total, scale_2, nan_2}), .q({sum, exponent, nan}));
endmodule
