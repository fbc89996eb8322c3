// Switching between stacks: what lets 1,024 GPU threads take turns on one CPU thread.
//
// A switch stores the registers that a function call must preserve on the stack it leaves, stores
// the stack pointer, loads the other one and restores. On x86-64 that is sixteen instructions;
// elsewhere, or with CUDASIM_UCONTEXT defined, the C library's swapcontext does the same. A barrier
// then takes thirty times as long, because swapcontext also asks the system to switch signal masks.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)

// Ends in pop and jmp where others have ret: the CPU predicts a ret to go back to where this
// function was called, which here it never does.
asm(R"(
    .text
    .type cudasim_switch, @function
cudasim_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov  %rsp, (%rdi)
    mov  %rsi, %rsp
    pop  %r15
    pop  %r14
    pop  %r13
    pop  %r12
    pop  %rbx
    pop  %rbp
    pop  %rcx
    jmp  *%rcx
    .size cudasim_switch, . - cudasim_switch
)");
extern "C" void cudasim_switch(void** save, void* load) asm("cudasim_switch");

struct Context {
    void* stack_pointer;
};

// Let the first switch to `context` call `entry` on a stack of its own.
static void make_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
    void** top =
        reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15});
    *--top = nullptr;  // where a caller's return address would be: keeps the stack aligned
    *--top = reinterpret_cast<void*>(entry);
    top -= 6;
    memset(top, 0, 6 * sizeof(void*));
    context.stack_pointer = top;
}

static inline void switch_context(Context& from, Context& to) {
    cudasim_switch(&from.stack_pointer, to.stack_pointer);
}

#else
#include <ucontext.h>

struct Context {
    ucontext_t state;
};

static void make_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = bytes;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

static inline void switch_context(Context& from, Context& to) {
    swapcontext(&from.state, &to.state);
}

#endif
