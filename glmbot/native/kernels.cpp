// One step of a transformer on the CPU, as a program of a few kinds of operation.
//
// A step costs thousands of small operations; dispatching them one by one from Python takes longer than computing
// them. So a model is lowered once to a list of operations (glmbot/native/program.py), and a whole step is one call.
//
// Every number of a token depends on that token's own row alone, in one order of additions, whatever else is in the
// step. So an answer is the same, bit for bit, alone and in any company, and however its prompt was cut in chunks.
//
// Hidden states are float32 [tokens, width]. Weights lie in blocks of 16 output rows, so that a vector register holds
// one column (or 2, or 4) of 16 rows, and the sum over columns needs no sum across a register.
//
// The same source makes a library for each instruction set: what differs is in vectors.h and dot.h.

#include "phases.h"
#include "threads.h"

#define API extern "C" __attribute__((visibility("default")))

API void glmbot_step(const Op* ops, int count, const Step* step, int threads) {
  const Phases phases = phases_of(ops, count, *step, threads);
  Crew::run({&phases, (int)phases.list.size(), pieces, compute}, threads);
}

// What the compiler was allowed to use, in words.
API const char* glmbot_features() { return kInstructions; }
