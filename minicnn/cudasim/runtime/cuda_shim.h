// The CUDA C that kernels may use, for a C++ compiler: route "shim" puts this before the text of a
// kernel.
//
// rewrite.py has turned `__shared__` declarations into calls of the runtime; everything else that
// C++ lacks is a macro, a type or an inline function here. Functions that the runtime tells apart
// by line take the caller's line as a default argument. Whole C++ headers would take longer to
// compile than a kernel, so the C library's functions are declared one by one.
#pragma once
#include "runtime.h"

#define __CUDACC__ 1
#define __CUDA_ARCH__ 800
#define __CUDACC_RTC__ 1
#define __device__
#define __host__
#define __constant__
#define __restrict __restrict__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// A kernel that is not launched costs nothing when it is static.
#define __global__ static __attribute__((unused))

using size_t = decltype(sizeof 0);
static constexpr int warpSize = 32;

// ------------------------------------------------------------------------------------ vector types

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define CUDASIM_VECTOR(T, NAME)                                                        \
    struct __attribute__((aligned(2 * sizeof(T)))) NAME##2 { T x, y; };                \
    struct NAME##3 { T x, y, z; };                                                     \
    struct __attribute__((aligned(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)))) NAME##4 { \
        T x, y, z, w;                                                                  \
    };                                                                                 \
    CUDASIM_MAKE(T, NAME)
#define CUDASIM_MAKE(T, NAME)                                                 \
    static inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }         \
    static inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; } \
    static inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDASIM_VECTOR(float, float)
CUDASIM_VECTOR(double, double)
CUDASIM_VECTOR(int, int)
CUDASIM_VECTOR(unsigned char, uchar)
CUDASIM_VECTOR(long long, longlong)
struct __attribute__((aligned(8))) uint2 {
    unsigned x, y;
};  // uint3 is threadIdx's type
struct __attribute__((aligned(16))) uint4 {
    unsigned x, y, z, w;
};
CUDASIM_MAKE(unsigned, uint)

// ------------------------------------------------------------------ bits as another type, and back

template <typename To, typename From>
static inline To cudasim_bits(From from) {
    To to{};
    __builtin_memcpy(&to, &from, sizeof(From) < sizeof(To) ? sizeof(From) : sizeof(To));
    return to;
}
static inline int __float_as_int(float x) { return cudasim_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return cudasim_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return cudasim_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return cudasim_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return cudasim_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return cudasim_bits<double>(x); }

// ------------------------------------------------------------------------- barriers, warps, fences

#define __syncthreads() cudasim_barrier(__LINE__)
#define __syncthreads_count(predicate) \
    cudasim_barrier_reduce(__LINE__, (predicate) != 0, CUDASIM_COUNT)
#define __syncthreads_and(predicate) cudasim_barrier_reduce(__LINE__, (predicate) != 0, CUDASIM_AND)
#define __syncthreads_or(predicate) cudasim_barrier_reduce(__LINE__, (predicate) != 0, CUDASIM_OR)

static inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
    cudasim_syncwarp(mask, line);
}

#define CUDASIM_SHUFFLE(NAME, KIND, OPERAND)                                                  \
    template <typename T>                                                                     \
    static inline T NAME(unsigned mask, T value, OPERAND operand, int width = 32,             \
                         int line = __builtin_LINE()) {                                       \
        static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");                     \
        uint64_t bits = cudasim_bits<uint64_t>(value);                                        \
        return cudasim_bits<T>(cudasim_shuffle(mask, bits, KIND, int(operand), width, line)); \
    }
CUDASIM_SHUFFLE(__shfl_sync, CUDASIM_INDEX, int)
CUDASIM_SHUFFLE(__shfl_up_sync, CUDASIM_UP, unsigned)
CUDASIM_SHUFFLE(__shfl_down_sync, CUDASIM_DOWN, unsigned)
CUDASIM_SHUFFLE(__shfl_xor_sync, CUDASIM_XOR, int)

static inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return cudasim_ballot(mask, predicate, line);
}
static inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return cudasim_ballot(mask, predicate, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return cudasim_ballot(mask, !predicate, line) == 0;
}

// Accesses happen in the order in which a thread makes them, so there is nothing to do.
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

// ----------------------------------------------------------------------------------------- atomics

#ifdef CUDASIM_CHECKED
#define CUDASIM_ANNOUNCE(ADDRESS, LINE) \
    cudasim_access(ADDRESS, sizeof(*ADDRESS), CUDASIM_ATOMIC, LINE)
#else
#define CUDASIM_ANNOUNCE(ADDRESS, LINE) (void)LINE
#endif

#define CUDASIM_ATOMIC_OPERATION(NAME, T, AFTER)                                               \
    CUDASIM_UNCHECKED static inline T NAME(T* address, T value, int line = __builtin_LINE()) { \
        CUDASIM_ANNOUNCE(address, line);                                                       \
        return cudasim_change(address, [value](T old) CUDASIM_UNCHECKED -> T {                 \
            (void)old;                                                                         \
            return AFTER;                                                                      \
        });                                                                                    \
    }
#define CUDASIM_ATOMICS(T)                                                                         \
    CUDASIM_ATOMIC_OPERATION(atomicAdd, T, T(old + value))                                         \
    CUDASIM_ATOMIC_OPERATION(atomicMax, T, old < value ? value : old)                              \
    CUDASIM_ATOMIC_OPERATION(atomicMin, T, value < old ? value : old)                              \
    CUDASIM_ATOMIC_OPERATION(atomicExch, T, value)                                                 \
    CUDASIM_ATOMIC_OPERATION(atomicAnd, T, T(old& value))                                          \
    CUDASIM_ATOMIC_OPERATION(atomicOr, T, T(old | value))                                          \
    CUDASIM_ATOMIC_OPERATION(atomicXor, T, T(old ^ value))                                         \
    CUDASIM_UNCHECKED static inline T atomicCAS(T* address, T compared, T value,                   \
                                                int line = __builtin_LINE()) {                     \
        CUDASIM_ANNOUNCE(address, line);                                                           \
        return cudasim_change(                                                                     \
            address, [=](T old) CUDASIM_UNCHECKED -> T { return old == compared ? value : old; }); \
    }
CUDASIM_ATOMICS(int)
CUDASIM_ATOMICS(unsigned)
using cudasim_wide = unsigned long long;
CUDASIM_ATOMICS(cudasim_wide)
CUDASIM_ATOMIC_OPERATION(atomicSub, int, int(unsigned(old) - unsigned(value)))
CUDASIM_ATOMIC_OPERATION(atomicSub, unsigned, old - value)
CUDASIM_ATOMIC_OPERATION(atomicInc, unsigned, old >= value ? 0 : old + 1)
CUDASIM_ATOMIC_OPERATION(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
CUDASIM_ATOMIC_OPERATION(atomicMax, long long, old < value ? value : old)
CUDASIM_ATOMIC_OPERATION(atomicMin, long long, value < old ? value : old)
CUDASIM_ATOMIC_OPERATION(atomicAdd, float, old + value)
CUDASIM_ATOMIC_OPERATION(atomicAdd, double, old + value)
CUDASIM_ATOMIC_OPERATION(atomicExch, float, value)

// ------------------------------------------------------------------------------------- mathematics

// Functions of one argument, as float, as double, and overloaded under the double's name.
#define CUDASIM_UNARY(NAME)                   \
    extern "C" float NAME##f(float) noexcept; \
    extern "C" double NAME(double) noexcept;  \
    static inline float NAME(float x) { return NAME##f(x); }
CUDASIM_UNARY(exp)
CUDASIM_UNARY(exp2) CUDASIM_UNARY(expm1) CUDASIM_UNARY(log) CUDASIM_UNARY(log2) CUDASIM_UNARY(log10)
    CUDASIM_UNARY(log1p) CUDASIM_UNARY(sqrt) CUDASIM_UNARY(cbrt) CUDASIM_UNARY(fabs)
        CUDASIM_UNARY(floor) CUDASIM_UNARY(ceil) CUDASIM_UNARY(trunc) CUDASIM_UNARY(round)
            CUDASIM_UNARY(rint) CUDASIM_UNARY(nearbyint) CUDASIM_UNARY(sin) CUDASIM_UNARY(cos)
                CUDASIM_UNARY(tan) CUDASIM_UNARY(asin) CUDASIM_UNARY(acos) CUDASIM_UNARY(atan)
                    CUDASIM_UNARY(sinh) CUDASIM_UNARY(cosh) CUDASIM_UNARY(tanh) CUDASIM_UNARY(asinh)
                        CUDASIM_UNARY(acosh) CUDASIM_UNARY(atanh) CUDASIM_UNARY(erf)
                            CUDASIM_UNARY(erfc) CUDASIM_UNARY(lgamma) CUDASIM_UNARY(tgamma)
#define CUDASIM_BINARY(NAME)                         \
    extern "C" float NAME##f(float, float) noexcept; \
    extern "C" double NAME(double, double) noexcept; \
    static inline float NAME(float x, float y) { return NAME##f(x, y); }
                                CUDASIM_BINARY(pow) CUDASIM_BINARY(fmod) CUDASIM_BINARY(fmin)
                                    CUDASIM_BINARY(fmax) CUDASIM_BINARY(fdim) CUDASIM_BINARY(atan2)
                                        CUDASIM_BINARY(hypot) CUDASIM_BINARY(copysign)
                                            CUDASIM_BINARY(nextafter) extern "C" float fmaf(
                                                float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
static inline float fma(float x, float y, float z) { return fmaf(x, y, z); }

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }

// The fast ones are exact here.
static inline float __expf(float x) { return expf(x); }
static inline float __exp10f(float x) { return powf(10.0f, x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __log10f(float x) { return log10f(x); }
static inline float __powf(float x, float y) { return powf(x, y); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline float __tanf(float x) { return tanf(x); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// Roundings that must not be contracted to an fma. A volatile result keeps the compiler from it.
#define CUDASIM_ROUNDED(NAME, T, VALUE)                \
    CUDASIM_UNCHECKED static inline T NAME(T x, T y) { \
        volatile T result = VALUE;                     \
        return result;                                 \
    }
CUDASIM_ROUNDED(__fadd_rn, float, x + y)
CUDASIM_ROUNDED(__fsub_rn, float, x - y)
CUDASIM_ROUNDED(__fmul_rn, float, x* y)
CUDASIM_ROUNDED(__fdiv_rn, float, x / y)
CUDASIM_ROUNDED(__dadd_rn, double, x + y)
CUDASIM_ROUNDED(__dsub_rn, double, x - y)
CUDASIM_ROUNDED(__dmul_rn, double, x* y)
CUDASIM_ROUNDED(__ddiv_rn, double, x / y)
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

#define CUDASIM_MIN_MAX(T)                                  \
    static inline T min(T x, T y) { return y < x ? y : x; } \
    static inline T max(T x, T y) { return x < y ? y : x; }
CUDASIM_MIN_MAX(int)
CUDASIM_MIN_MAX(unsigned) CUDASIM_MIN_MAX(long) CUDASIM_MIN_MAX(unsigned long)
    CUDASIM_MIN_MAX(long long)
        CUDASIM_MIN_MAX(unsigned long long) static inline float min(float x, float y) {
    return fminf(x, y);
}
static inline float max(float x, float y) { return fmaxf(x, y); }
static inline double min(double x, double y) { return fmin(x, y); }
static inline double max(double x, double y) { return fmax(x, y); }
static inline int abs(int x) { return x < 0 ? -x : x; }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }

static inline bool isnan(float x) { return __builtin_isnan(x); }
static inline bool isnan(double x) { return __builtin_isnan(x); }
static inline bool isinf(float x) { return __builtin_isinf(x); }
static inline bool isinf(double x) { return __builtin_isinf(x); }
static inline bool isfinite(float x) { return __builtin_isfinite(x); }
static inline bool isfinite(double x) { return __builtin_isfinite(x); }
static inline bool signbit(float x) { return __builtin_signbitf(x); }
static inline bool signbit(double x) { return __builtin_signbit(x); }

// Float to integer saturates on a GPU, and NaN becomes 0; in C++ it is undefined.
#define CUDASIM_TO_INTEGER(NAME, T, ROUNDED)                                                    \
    static inline T NAME(float x) {                                                             \
        const T least = T(-1) < T(0) ? T(T(1) << (8 * sizeof(T) - 1)) : T(0), most = T(~least); \
        float r = ROUNDED;                                                                      \
        return r != r ? T(0) : r <= float(least) ? least : r >= float(most) ? most : T(r);      \
    }
CUDASIM_TO_INTEGER(__float2int_rn, int, rintf(x))
CUDASIM_TO_INTEGER(__float2int_rz, int, truncf(x))
CUDASIM_TO_INTEGER(__float2int_rd, int, floorf(x))
CUDASIM_TO_INTEGER(__float2int_ru, int, ceilf(x))
CUDASIM_TO_INTEGER(__float2uint_rn, unsigned, rintf(x))
CUDASIM_TO_INTEGER(__float2uint_rz, unsigned, truncf(x))
static inline float __int2float_rn(int x) { return float(x); }
static inline float __uint2float_rn(unsigned x) { return float(x); }
static inline float __double2float_rn(double x) { return float(x); }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1u) << (31 - i);
    return reversed;
}
static inline int __mul24(int x, int y) { return x * y; }
static inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }
static inline int __mulhi(int x, int y) { return int(int64_t(x) * y >> 32); }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}

template <typename T>
static inline T __ldg(const T* address) {
    return *address;
}

// --------------------------------------------------------------------------------------- debugging

#define printf(...) cudasim_printf(__VA_ARGS__)
#undef assert
#define assert(condition) \
    ((condition) ? (void)0 : cudasim_fail("assert(" #condition ") failed", __LINE__))
#define __trap() cudasim_fail("__trap() was called", __LINE__)
#define __assume(condition)
static inline long long clock64() { return 0; }

// -------------------------------------------------------- how Python calls a kernel, and its types

// One letter for the kind, one digit for the bytes; P before a pointer, C before what it may not
// write: "PCf4," is const float*.
template <typename T>
struct cudasim_type {
    static constexpr char kind = T(0.5) != T(0) ? 'f' : T(-1) < T(0) ? 'i' : 'u';
    static void write(char*& out) {
        *out++ = kind;
        *out++ = char('0' + sizeof(T));
    }
};
#define CUDASIM_TYPE(T, TEXT)                                            \
    template <>                                                          \
    struct cudasim_type<T> {                                             \
        static void write(char*& out) {                                  \
            for (const char* text = TEXT; *text; ++text) *out++ = *text; \
        }                                                                \
    };
CUDASIM_TYPE(bool, "b1")
CUDASIM_TYPE(void, "v0")
CUDASIM_TYPE(float2, "f4")
CUDASIM_TYPE(float3, "f4") CUDASIM_TYPE(float4, "f4") CUDASIM_TYPE(double2, "f8")
    CUDASIM_TYPE(double4, "f8") CUDASIM_TYPE(int2, "i4") CUDASIM_TYPE(int3, "i4")
        CUDASIM_TYPE(int4, "i4") CUDASIM_TYPE(uint2, "u4") CUDASIM_TYPE(uint4, "u4")
            CUDASIM_TYPE(uchar4, "u1") template <typename T>
            struct cudasim_type<const T> {
    static void write(char*& out) {
        *out++ = 'C';
        cudasim_type<T>::write(out);
    }
};
template <typename T>
struct cudasim_type<T*> {
    static void write(char*& out) {
        *out++ = 'P';
        cudasim_type<T>::write(out);
    }
};
template <typename T>
struct cudasim_type<T* __restrict__> : cudasim_type<T*> {};

template <typename... Types>
static inline void cudasim_write_signature(void (*)(Types...), char* out) {
    int each[] = {0, (cudasim_type<Types>::write(out), *out++ = ',', 0)...};
    (void)each;
    *out = 0;
}

template <int... I>
struct cudasim_numbers {};
template <int N, int... I>
struct cudasim_count : cudasim_count<N - 1, N - 1, I...> {};
template <int... I>
struct cudasim_count<0, I...> {
    using type = cudasim_numbers<I...>;
};
template <typename T>
struct cudasim_plain {
    using type = T;
};
template <typename T>
struct cudasim_plain<const T> {
    using type = T;
};

template <typename... Types, int... I>
CUDASIM_UNCHECKED static inline __attribute__((always_inline)) void cudasim_call(
    void (*kernel)(Types...), const uint64_t* arguments, cudasim_numbers<I...>) {
    kernel(*reinterpret_cast<const typename cudasim_plain<Types>::type*>(arguments + I)...);
}
template <typename... Types>
CUDASIM_UNCHECKED static inline __attribute__((always_inline)) void cudasim_call(
    void (*kernel)(Types...), const uint64_t* arguments) {
    cudasim_call(kernel, arguments, typename cudasim_count<sizeof...(Types)>::type());
}

#define CUDASIM_EXPORT(...)                                                                     \
    extern "C" __attribute__((visibility("default"))) CUDASIM_UNCHECKED void cudasim_kernel(    \
        const uint64_t* arguments) {                                                            \
        cudasim_call(&(__VA_ARGS__), arguments);                                                \
    }                                                                                           \
    extern "C" __attribute__((visibility("default"))) CUDASIM_UNCHECKED void cudasim_signature( \
        char* out) {                                                                            \
        cudasim_write_signature(&(__VA_ARGS__), out);                                           \
    }
