// Reads the operands of all vectors, and writes what the multiplier answers.
module testbench;
  localparam integer COUNT = 65536;
  reg [15:0] operands[0:COUNT-1];
  reg [7:0] a, b;
  wire [7:0] product;
  integer i, file;

  multiplier dut (.a(a), .b(b), .product(product));

  initial begin
    $readmemh("mul.in.mem", operands);
    file = $fopen("answers.txt", "w");
    for (i = 0; i < COUNT; i = i + 1) begin
      {a, b} = operands[i];
      #1 $fdisplay(file, "%h %h %h", a, b, product);
    end
    $fclose(file);
  end
endmodule
