// Where the threads of a crew compute, of glmbot/native/threads.h: test_threads.py compiles and runs this. Prints what
// is wrong; ends with 1 then.

#include <cstdio>

#include "../../glmbot/native/threads.h"

static int faults = 0;
static void expect(bool right, const char* what) {
  if (right) return;
  printf("%s\n", what);
  faults++;
}

// Whether thread 1 leaves the core of thread 0 while it may run on `allowed`, where both are for now.
static bool leaves(const cpu_set_t& allowed) {
  // The system may move this thread at any time, also back.
  for (int attempt = 0; attempt < 200; attempt++) {
    Cores cores;
    int64_t moved = 0;
    cores.begin(0, 2, moved);
    const int shared = sched_getcpu();
    cores.begin(1, 2, moved);
    const int after = sched_getcpu();
    cpu_set_t now;
    sched_getaffinity(0, sizeof now, &now);
    expect(CPU_EQUAL(&now, &allowed), "it may not run where it might before");
    if (after != shared) return true;
  }
  return false;
}

int main() {
  cpu_set_t all, one;
  sched_getaffinity(0, sizeof all, &all);
  if (CPU_COUNT(&all) > 1) expect(leaves(all), "it stays on the core of another, although there is one of nobody");
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof one, &one);
  expect(!leaves(one), "it runs where it may not");
  return faults ? 1 : 0;
}
