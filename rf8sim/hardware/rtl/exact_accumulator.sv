// A sum of exact products in fixed point, without rounding (Kulisch): 2^GUARD products of PRODUCT bits each cannot
// overflow it. Beyond that it stays at the largest or lowest sum, and `overflow` says so until the next `clear`; a sum
// that has overflowed is not the exact one any more, even if later products bring it back.
// The addend comes as the one's complement and a carry, so that the sign of a product costs no adder of its own.
module exact_accumulator #(
    parameter integer PRODUCT = 40,  // bits of a product's magnitude
    parameter integer GUARD = 8      // at least 1
) (
    input  wire                              clk,
    input  wire                              clear,   // begin a new sum, with this product if valid
    input  wire                              valid,
    input  wire  signed [         PRODUCT:0] addend,
    input  wire                              carry,
    input  wire                              nan_in,
    output logic signed [PRODUCT+GUARD:0]    sum,
    output logic                             overflow,
    output logic                             nan
);
  localparam integer WIDTH = PRODUCT + GUARD + 1;

  wire signed [WIDTH:0] start = clear ? {(WIDTH + 1) {1'b0}} : {sum[WIDTH-1], sum};
  wire signed [WIDTH:0] wide = {{GUARD + 1{addend[PRODUCT]}}, addend};
  wire signed [WIDTH:0] total = start + wide + $signed({{WIDTH{1'b0}}, carry});
  wire beyond = total[WIDTH] != total[WIDTH-1];

  always_ff @(posedge clk) begin
    if (valid) begin
      sum <= beyond ? {total[WIDTH], {(WIDTH - 1) {!total[WIDTH]}}} : total[WIDTH-1:0];
      overflow <= beyond || (overflow && !clear);
      nan <= nan_in || (nan && !clear);
    end else if (clear) begin
      sum <= {WIDTH{1'b0}};
      overflow <= 1'b0;
      nan <= 1'b0;
    end
  end
endmodule
