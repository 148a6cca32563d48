// The exact product of two INT8 numbers. It is the weight times activation of INT8 too.
module int8_multiply (
    input  wire  signed [ 7:0] a,
    input  wire  signed [ 7:0] b,
    output logic signed [15:0] product
);
  assign product = a * b;
endmodule
