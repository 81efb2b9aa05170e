// Runs a kernel's grid block by block, a block's threads as fibres on one operating system thread. A fibre runs until it
// reaches a barrier or a shuffle; when all lanes of its warp have arrived they go on. The orders in which warps and lanes
// take turns can be reversed: a kernel whose result depends on it lacks a barrier.
#include "emulation.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

emulation_dim threadIdx, blockIdx, blockDim, gridDim;

namespace {

enum State { READY, AT_BLOCK, AT_WARP, DONE };

const size_t stack_bytes = 64 << 10;
const int max_threads = 1024, max_shared = 228 << 10;

struct Fibre {
    jmp_buf at;
    ucontext_t start;
    char *stack;
    State state;
    unsigned mask; // of the shuffle that it waits at
    bool made;
};

Fibre fibres[max_threads];
jmp_buf scheduler;
int current, threads;
emulation_words slots[max_threads / 32][2][32];
int parity[max_threads];
unsigned char shared[max_shared] __attribute__((aligned(128)));
void (*body)(void **);
void **params;
char message[256];

void enter() {
    for (;;) {
        body(params);
        fibres[current].state = DONE;
        if (!_setjmp(fibres[current].at)) _longjmp(scheduler, 1);
    }
}

void pause_as(State s) {
    fibres[current].state = s;
    if (!_setjmp(fibres[current].at)) _longjmp(scheduler, 1);
}

void run(int t) {
    current = t;
    threadIdx.x = t;
    if (_setjmp(scheduler)) return;
    Fibre &f = fibres[t];
    if (f.made) _longjmp(f.at, 1);
    f.made = true;
    if (!f.stack) f.stack = (char *)malloc(stack_bytes);
    getcontext(&f.start);
    f.start.uc_stack.ss_sp = f.stack;
    f.start.uc_stack.ss_size = stack_bytes;
    f.start.uc_link = 0;
    makecontext(&f.start, enter, 0);
    setcontext(&f.start);
}

bool fail(const char *what, int warp) {
    snprintf(message, sizeof message, "%s (block %u,%u,%u, warp %d)", what, blockIdx.x, blockIdx.y, blockIdx.z, warp);
    for (int t = 0; t < max_threads; t++) fibres[t].made = false;
    return false;
}

// warp runs a warp until all its lanes are at the block's barrier or done.
bool run_warp(int w, bool backward) {
    for (;;) {
        for (int l = 0; l < 32; l++) {
            int t = 32 * w + (backward ? 31 - l : l);
            if (fibres[t].state == READY) run(t);
        }
        int count[4] = {0};
        for (int l = 0; l < 32; l++) count[fibres[32 * w + l].state]++;
        if (count[AT_WARP] == 0) return true;
        if (count[AT_WARP] != 32) return fail("some lanes wait at a shuffle that others do not reach", w);
        for (int l = 0; l < 32; l++) {
            if (fibres[32 * w + l].mask != 0xffffffffu) return fail("a shuffle's mask leaves lanes out", w);
            fibres[32 * w + l].state = READY;
        }
    }
}

bool run_block(bool backward) {
    memset(shared, 0xff, sizeof shared); // no number: what is read before it is written shows
    for (int t = 0; t < threads; t++) fibres[t].state = READY;
    int warps = threads / 32;
    for (;;) {
        for (int i = 0; i < warps; i++) {
            if (!run_warp(backward ? warps - 1 - i : i, backward)) return false;
        }
        int waiting = 0;
        for (int t = 0; t < threads; t++) waiting += fibres[t].state == AT_BLOCK;
        if (waiting == 0) return true;
        if (waiting != threads) return fail("some threads wait at a barrier that others do not reach", -1);
        for (int t = 0; t < threads; t++) fibres[t].state = READY;
    }
}

} // namespace

unsigned char *emulation_shared() { return shared; }

void __syncthreads() { pause_as(AT_BLOCK); }

void __syncwarp(unsigned mask) {
    fibres[current].mask = mask;
    pause_as(AT_WARP);
}

const emulation_words *emulation_exchange(unsigned mask, const emulation_words &mine) {
    int t = current;
    emulation_words *lanes = slots[t / 32][parity[t]];
    parity[t] ^= 1; // a lane is at most one exchange ahead of another
    lanes[t % 32] = mine;
    fibres[t].mask = mask;
    pause_as(AT_WARP);
    return lanes;
}

// multiply gives a lane its four sums of a product over `depth`, whose operands a(row, k) and b(k, column) lie with all lanes.
template <class A, class B> static void multiply(float c[4], int depth, A a, B b) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int k = 0; k < depth; k++) {
        float lo = a(g, k), hi = a(g + 8, k), left = b(k, 2 * t), right = b(k, 2 * t + 1);
        c[0] += lo * left, c[1] += lo * right, c[2] += hi * left, c[3] += hi * right;
    }
}

void mma_bf16(float c[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    const emulation_words *lanes = emulation_exchange(0xffffffffu, {{a0, a1, a2, a3, b0, b1}});
    auto half = [](unsigned pair, int k) { return __uint_as_float(k % 2 ? pair & 0xffff0000u : pair << 16); };
    multiply(c, 16, [&](int row, int k) { return half(lanes[row % 8 * 4 + k % 8 / 2].v[row / 8 + k / 8 * 2], k); },
             [&](int k, int column) { return half(lanes[column * 4 + k % 8 / 2].v[4 + k / 8], k); });
}

void mma_tf32(float c[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    const emulation_words *lanes = emulation_exchange(0xffffffffu, {{a0, a1, a2, a3, b0, b1}});
    auto number = [](unsigned u) { return u & 0x1fffu ? NAN : __uint_as_float(u); };
    multiply(c, 8, [&](int row, int k) { return number(lanes[row % 8 * 4 + k % 4].v[row / 8 + k / 4 * 2]); },
             [&](int k, int column) { return number(lanes[column * 4 + k % 4].v[4 + k / 4]); });
}

// Parameters are 8 bytes each. call unpacks them.
template <int... I> struct indices {};
template <int N, int... I> struct counted : counted<N - 1, N - 1, I...> {};
template <int... I> struct counted<0, I...> { typedef indices<I...> type; };
template <class... A, int... I> static void spread(void (*f)(A...), void **p, indices<I...>) { f(*(A *)p[I]...); }
template <class... A> static void call(void (*f)(A...), void **p) { spread(f, p, typename counted<sizeof...(A)>::type()); }
template <class... A> static constexpr int arity(void (*)(A...)) { return sizeof...(A); }

struct emulation_kernel {
    const char *name;
    int params;
    void (*run)(void **);
};
extern emulation_kernel emulation_kernels[]; // ends with a name of 0

// emulation_launch runs a kernel and returns what was wrong with it, or 0.
extern "C" const char *emulation_launch(const char *name, unsigned gx, unsigned gy, unsigned gz, int block, int bytes, void **p, int n,
                                        int backward) {
    message[0] = 0;
    emulation_kernel *k = emulation_kernels;
    while (k->name && strcmp(k->name, name)) k++;
    if (!k->name) return "there is no such kernel";
    if (k->params != n) return "wrong number of parameters";
    if (block % 32 || block > max_threads || bytes > max_shared) return "the block is too large or no multiple of a warp";
    body = k->run;
    params = p;
    threads = block;
    blockDim = {(unsigned)block, 1, 1};
    gridDim = {gx, gy, gz};
    for (uint64_t i = 0, total = (uint64_t)gx * gy * gz; i < total; i++) {
        uint64_t b = backward ? total - 1 - i : i;
        blockIdx = {(unsigned)(b % gx), (unsigned)(b / gx % gy), (unsigned)(b / gx / gy)};
        if (!run_block(backward)) return message;
    }
    return 0;
}
