// What the threads of a crew compute, of glmbot/native/threads.h: test_threads.py compiles and runs this. Prints what is
// wrong; ends with 1 then.

#include <cstdio>
#include <thread>
#include <vector>

#include "../../glmbot/native/threads.h"

static int faults = 0;
static void expect(bool right, const char* what) {
  if (right) return;
  printf("%s\n", what);
  faults++;
}

// Phases of some pieces each. Every piece counts how often it was computed, and looks whether the phase before is done.
struct Counted {
  std::vector<int> pieces;
  std::vector<std::vector<std::atomic<int>>> done;
  std::vector<std::atomic<int>> all;
  std::atomic<int> early{0};

  explicit Counted(std::vector<int> of) : pieces(of), all(of.size()) {
    for (int count : of) done.emplace_back(count);
  }

  static int count(const void* of, int phase) { return ((const Counted*)of)->pieces[phase]; }
  static void compute(const void* of, int phase, int piece) {
    Counted& self = *(Counted*)of;
    if (phase > 0 && self.all[phase - 1] != self.pieces[phase - 1]) self.early++;
    self.done[phase][piece]++;
    self.all[phase]++;
  }

  void run(int threads) { Crew::run({this, (int)pieces.size(), count, compute}, threads); }
};

static void every_piece_is_computed_once_and_after_the_phase_before() {
  for (int round = 0; round < 400; round++) {
    const int threads = 1 + round % 9;
    Counted work({1, 2, 0, 3, 40, 1, 1, 7, 300, 0, threads, threads - 1, threads + 1});
    work.run(threads);
    for (auto& phase : work.done)
      for (auto& piece : phase) expect(piece == 1, "a piece was not computed once");
    expect(work.early == 0, "a phase began before the one before it was done");
  }
}

// Whoever computes the first piece of the first share keeps it until all others are done.
struct Held {
  static constexpr int kPieces = 40;
  std::atomic<int> done{0};

  static int count(const void*, int) { return kPieces; }
  static void compute(const void* of, int, int piece) {
    Held& self = *(Held*)of;
    while (piece == 0 && self.done != kPieces - 1) std::this_thread::yield();
    self.done++;
  }
};

// The test's time runs out if they are not.
static void others_take_the_share_of_one_that_is_held_up() {
  for (int threads = 2; threads < 5; threads++) {
    Held work;
    Crew::run({&work, 1, Held::count, Held::compute}, threads);
    expect(work.done == Held::kPieces, "not all was computed");
  }
}

int main() {
  every_piece_is_computed_once_and_after_the_phase_before();
  others_take_the_share_of_one_that_is_held_up();
  return faults ? 1 : 0;
}
