// Drives one block with the vectors of a file and compares every answer. A vector is a line of hexadecimal fields, the
// block's inputs and then its expected outputs. A clocked block is compared after the edge; one with LATENCY of more
// edges is compared that many edges after the vector was applied.
// Blocks run one after another: each waits for start. +only=NAME leaves the other blocks out; +answers writes the
// answers to answers/NAME.mem.
module check #(
    parameter NAME = "",
    parameter integer COUNT = 1,
    parameter integer IN = 4,
    parameter integer OUT = 4,
    parameter integer LATENCY = 1
) (
    input  wire              start,
    output reg               clk,
    output reg  [    IN-1:0] stimulus,
    input  wire [   OUT-1:0] answer,
    output reg               done,
    output reg               chosen,
    output reg  [      31:0] wrong
);
  reg [IN+OUT-1:0] vectors[0:COUNT-1];
  reg [IN-1:0] asked;
  reg [OUT-1:0] expected;
  reg [8*64-1:0] only;
  integer i, k, file;
  reg writing;

  initial begin
    clk = 0;
    done = 0;
    wrong = 0;
    chosen = 1;
    if ($value$plusargs("only=%s", only)) chosen = only == NAME;
    writing = $test$plusargs("answers") != 0;
    wait (start);
    if (chosen) begin
      $readmemh({"vectors/", NAME, ".mem"}, vectors);
      if (writing) file = $fopen({"answers/", NAME, ".mem"}, "w");
      for (i = 0; i < COUNT + LATENCY - 1; i = i + 1) begin
        stimulus = vectors[i<COUNT?i : COUNT-1][OUT+:IN];
        clk = 0;
        #1 clk = 1;
        #1;
        if (i >= LATENCY - 1) begin
          k = i - LATENCY + 1;
          {asked, expected} = vectors[k];
          if (answer !== expected) begin
            wrong = wrong + 1;
            if (wrong <= 3) $display("%0s: vector %0d: inputs %h, expected %h, got %h", NAME, k, asked, expected, answer);
          end
          if (writing) $fdisplay(file, "%h", answer);
        end
      end
      if (writing) $fclose(file);
      $display("%0s: %0d vectors, %0d wrong", NAME, COUNT, wrong);
    end
    done = 1;
  end
endmodule
