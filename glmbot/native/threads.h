// A crew of threads that share a machine with others.
//
// Work is a row of phases, each of some pieces that any thread may compute, at once and in any order; a phase begins
// when the one before it is done. Each thread has a share of the pieces, neighbours in memory, so that what the
// processor fetches ahead is its own; whoever is through with its share takes from others'. Whoever finishes the last
// piece opens the next phase: a thread that the system has put aside is waited for only while it holds a piece. So that
// it seldom does, each gives way between two pieces, before its turn on the core runs out within one.
//
// Two of the crew never share a core for long while another has none of them, be it busy: Linux wakes a thread near the
// one that woke it, and counts two of ours here and a stranger there as even.
//
// An atomic word for each share says of which phase it is and how many of its pieces nobody has taken. Phases are
// numbered through the process's life, so a thread that comes late can't mistake one step for another.

#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <new>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kSpin = 10'000;         // ns that a thread watches for a phase before it sleeps: a piece's length
constexpr int64_t kTurn = 2'500'000;      // ns after which it gives way: Linux takes a core after 2.8 ms or more
constexpr int kMostThreads = 1024;

inline int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000ll + time.tv_nsec;
}

inline void pause_a_little() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// What one step consists of. `pieces` may be 0; those of a phase are numbered as they lie in memory.
struct Work {
  const void* of;
  int phases;
  int (*pieces)(const void* of, int phase);
  void (*compute)(const void* of, int phase, int piece);
};

void alone(const Work& work) {
  for (int phase = 0; phase < work.phases; phase++)
    for (int piece = 0, all = work.pieces(work.of, phase); piece < all; piece++) work.compute(work.of, phase, piece);
}

// The cores on which the threads of a crew compute; thread 0 leads.
class Cores {
 public:
  Cores() {
    for (auto& core : at_) core.store(kNowhere, std::memory_order_relaxed);
  }

  // Thread `number` begins to compute. Where one before it does on the same core, it moves to one that has none of them.
  void begin(int number, int threads, int64_t& moved) {
#if defined(__linux__)
    const int here = sched_getcpu();
    if (at_[number].load(std::memory_order_relaxed) != here) at_[number].store(here, std::memory_order_relaxed);
    for (int other = 0; other < number; other++)
      if (at_[other].load(std::memory_order_relaxed) == here) return move(number, threads, moved);
#endif
  }

  // It sleeps, and may be woken anywhere.
  void end(int number) { at_[number].store(kNowhere, std::memory_order_relaxed); }

 private:
  static constexpr int kNowhere = -1;

#if defined(__linux__)
  void move(int number, int threads, int64_t& moved) {
    const int64_t time = now();
    if (time - moved < kTurn) return;
    moved = time;
    cpu_set_t allowed, others;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    others = allowed;
    for (int other = 0; other < threads; other++) {
      const int core = at_[other].load(std::memory_order_relaxed);
      if (core >= 0 && core < CPU_SETSIZE) CPU_CLR(core, &others);
    }
    // It is moved at once, and stays where it is when it may run anywhere again.
    if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
    at_[number].store(sched_getcpu(), std::memory_order_relaxed);
  }
#endif

  std::atomic<int> at_[kMostThreads];
};

class Crew {
 public:
  // One caller at a time has the crew; whoever comes meanwhile computes alone.
  static void run(const Work& work, int threads) {
    static Crew* crew = new Crew;  // never destroyed: its threads outlive everything
    if (threads < 2 || crew->busy_.test_and_set(std::memory_order_acquire)) return alone(work);
    crew->lead(work, threads < kMostThreads ? threads : kMostThreads);
    crew->busy_.clear(std::memory_order_release);
  }

 private:
  struct Helper {
    Crew* crew;
    int number;
  };

  // A thread's: when it last got a core, and when it last looked for another, in ns.
  struct Turn {
    int number;
    int64_t since, moved;
  };

  struct alignas(64) Share {
    std::atomic<uint64_t> left{0};  // the phase, and in the lower half how many of its pieces are left
    std::atomic<int32_t> end{0};    // behind the last piece
  };

  void lead(const Work& work, int threads) {
    recruit(threads - 1);
    helpers_.store(threads - 1, std::memory_order_relaxed);
    work_ = &work;
    first_ = phase_.load(std::memory_order_relaxed) + 1;
    const uint32_t last = first_ + (uint32_t)work.phases;
    Turn turn = {0, now(), 0};
    cores_.begin(turn.number, threads, turn.moved);
    open(first_);
    for (;;) {
      const uint32_t seen = phase_.load(std::memory_order_acquire);
      if (seen == last) return;
      take(turn);
      wait(seen, turn, kSpin);
    }
  }

  static void* help(void* argument) {
    const Helper self = *(Helper*)argument;
    delete (Helper*)argument;
    Crew& crew = *self.crew;
    Turn turn = {self.number + 1, now(), 0};
    for (;;) {
      const uint32_t seen = crew.phase_.load(std::memory_order_acquire);
      const bool wanted = self.number < crew.helpers_.load(std::memory_order_relaxed);
      if (wanted) crew.take(turn);
      crew.wait(seen, turn, wanted ? kSpin : 0);
    }
  }

  // Compute pieces as long as there are any: of its own share first.
  void take(Turn& turn) {
    const int threads = helpers_.load(std::memory_order_relaxed) + 1;
    cores_.begin(turn.number, threads, turn.moved);
    for (int passed = 0; passed < threads;) {
      Share& share = shares_[(turn.number + passed) % threads];
      uint64_t seen = share.left.load(std::memory_order_acquire);
      const int32_t left = (int32_t)(uint32_t)seen;
      if (left == 0) {
        passed++;
        continue;
      }
      if (!share.left.compare_exchange_weak(seen, seen - 1, std::memory_order_acquire)) continue;
      // From here until the piece is finished neither the phase nor the step can end.
      const uint32_t phase = (uint32_t)(seen >> 32);
      work_->compute(work_->of, (int)(phase - first_), share.end.load(std::memory_order_relaxed) - left);
      if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) open(phase + 1);
      give_way(turn);
      passed = 0;
    }
  }

  // Open `phase`, or what comes after it where that is nothing, or one piece: that is computed here.
  void open(uint32_t phase) {
    const uint32_t last = first_ + (uint32_t)work_->phases;
    for (; phase != last; phase++) {
      const int pieces = work_->pieces(work_->of, (int)(phase - first_));
      if (pieces > 1) {
        share_out(phase, pieces);
        return publish(phase);
      }
      if (pieces == 1) work_->compute(work_->of, (int)(phase - first_), 0);
    }
    publish(last);
  }

  void share_out(uint32_t phase, int pieces) {
    const int threads = helpers_.load(std::memory_order_relaxed) + 1;
    missing_.store(pieces, std::memory_order_relaxed);
    for (int number = 0, begin = 0; number < threads; number++) {
      const int end = (int)((int64_t)pieces * (number + 1) / threads);
      shares_[number].end.store(end, std::memory_order_relaxed);
      shares_[number].left.store((uint64_t)phase << 32 | (uint32_t)(end - begin), std::memory_order_release);
      begin = end;
    }
  }

  // Others may have finished the phase, and opened the next, before this is said.
  void publish(uint32_t phase) {
    uint32_t before = phase_.load();
    do {
      if ((int32_t)(phase - before) <= 0) return;
    } while (!phase_.compare_exchange_weak(before, phase));
    if (sleepers_.load() == 0) return;
    pthread_mutex_lock(&mutex_);
    pthread_mutex_unlock(&mutex_);
    pthread_cond_broadcast(&changed_);
  }

  // Until the phase is another: watch it for `spin` ns, then sleep.
  void wait(uint32_t seen, Turn& turn, int64_t spin) {
    const int64_t until = now() + spin;
    do {
      for (int i = 0; i < 16; i++) {
        if (phase_.load(std::memory_order_acquire) != seen) return;
        pause_a_little();
      }
    } while (now() < until);
    cores_.end(turn.number);
    sleepers_.fetch_add(1);
    pthread_mutex_lock(&mutex_);
    while (phase_.load() == seen) pthread_cond_wait(&changed_, &mutex_);
    pthread_mutex_unlock(&mutex_);
    sleepers_.fetch_sub(1);
    turn.since = now();
  }

  static void give_way(Turn& turn) {
    const int64_t time = now();
    if (time - turn.since < kTurn) return;
    sched_yield();
    turn.since = now();
  }

  void recruit(int wanted) {
    // A process that was forked has none of its parent's threads.
    if (owner_ != getpid()) {
      owner_ = getpid();
      recruited_ = 0;
      sleepers_.store(0);
      pthread_mutex_init(&mutex_, nullptr);
      pthread_cond_init(&changed_, nullptr);
    }
    // Signals are for the threads of whoever called.
    sigset_t all, before;
    sigfillset(&all);
    if (recruited_ < wanted) pthread_sigmask(SIG_SETMASK, &all, &before);
    else return;
    for (; recruited_ < wanted; recruited_++) {
      pthread_t thread;
      Helper* helper = new Helper{this, recruited_};
      if (pthread_create(&thread, nullptr, help, helper) != 0) {
        delete helper;  // fewer do as well
        break;
      }
      pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  alignas(64) std::atomic<uint32_t> phase_{0};
  alignas(64) std::atomic<int32_t> missing_{0};
  alignas(64) std::atomic<int32_t> sleepers_{0};
  std::atomic<int32_t> helpers_{0};
  Share shares_[kMostThreads];
  Cores cores_;
  const Work* work_ = nullptr;
  uint32_t first_ = 0;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  int32_t recruited_ = 0;
  pid_t owner_ = 0;
  pthread_mutex_t mutex_;
  pthread_cond_t changed_;
};

}  // namespace
