// What PTX instructions compute where C++ has no operator, or leaves the result undefined.
//
// Floating-point arithmetic follows IEEE 754, as a GPU's does. The approximate instructions (ex2,
// lg2, rsqrt, ...) are computed to full precision: a GPU's own results differ in the last bits.

#pragma once

#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <cmath>
#include <limits>
#include <type_traits>

namespace ptx {

template <typename T, typename S>
inline T bits(S value) {
    static_assert(sizeof(T) == sizeof(S), "a register holds what its size allows");
    T result;
    memcpy(&result, &value, sizeof result);
    return result;
}

// ---------------------------------------------------------------- integers

template <typename T>
inline T minimum_of(T a, T b) {
    return a < b ? a : b;
}

// By zero, a GPU gives all ones; the quotient -2^31 / -1 wraps.
template <typename T>
inline T divide(T a, T b) {
    if (b == 0) return T(-1);
    if (std::is_signed<T>::value && b == T(-1)) return T(-typename std::make_unsigned<T>::type(a));
    return a / b;
}

template <typename T>
inline T remainder(T a, T b) {
    if (b == 0) return a;
    return std::is_signed<T>::value && b == T(-1) ? T(0) : T(a % b);
}

template <typename T>
inline T shift_left(T a, uint32_t count) {
    return count >= 8 * sizeof(T) ? T(0) : T(typename std::make_unsigned<T>::type(a) << count);
}

template <typename T>
inline T shift_right(T a, uint32_t count) {
    return count >= 8 * sizeof(T) ? (a < 0 ? T(-1) : T(0)) : T(a >> count);
}

inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, unsigned table) {
    uint32_t result = 0;
    if (table & 0x01) result |= ~a & ~b & ~c;
    if (table & 0x02) result |= ~a & ~b & c;
    if (table & 0x04) result |= ~a & b & ~c;
    if (table & 0x08) result |= ~a & b & c;
    if (table & 0x10) result |= a & ~b & ~c;
    if (table & 0x20) result |= a & ~b & c;
    if (table & 0x40) result |= a & b & ~c;
    if (table & 0x80) result |= a & b & c;
    return result;
}

// Each half byte of the selector chooses one of eight bytes; its top bit spreads that byte's sign.
inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
    const uint64_t both = uint64_t(b) << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned choice = selector >> (4 * i) & 15;
        uint32_t byte = both >> (8 * (choice & 7)) & 255;
        if (choice & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << (8 * i);
    }
    return result;
}

template <typename T>
inline T extract(T a, uint32_t position, uint32_t length) {
    typedef typename std::make_unsigned<T>::type U;
    const unsigned width = 8 * sizeof(T);
    position &= 255;
    length &= 255;
    if (length == 0) return 0;
    // Bits past the top are the sign, or zero.
    T field = shift_right(a, position);
    if (length >= width) return field;
    const U mask = (U(1) << length) - 1;
    const unsigned top = minimum_of(position + length - 1, width - 1);
    const bool negative = std::is_signed<T>::value && (U(a) >> top & 1);
    return T((U(field) & mask) | (negative ? ~mask : U(0)));
}

template <typename T>
inline T insert(T a, T into, uint32_t position, uint32_t length) {
    const unsigned width = 8 * sizeof(T);
    position &= 255;
    length &= 255;
    if (position >= width || length == 0) return into;
    const T ones = length >= width ? T(-1) : T((T(1) << length) - 1);
    const T mask = T(ones << position);
    return T((into & ~mask) | (T(a << position) & mask));
}

inline uint32_t ones(uint32_t a) { return __builtin_popcount(a); }
inline uint32_t ones(uint64_t a) { return __builtin_popcountll(a); }
inline uint32_t leading_zeros(uint32_t a) { return a ? __builtin_clz(a) : 32; }
inline uint32_t leading_zeros(uint64_t a) { return a ? __builtin_clzll(a) : 64; }

template <typename T>
inline uint32_t highest(T a) {
    return a ? 8 * sizeof(T) - 1 - leading_zeros(a) : 0xffffffffu;
}

template <typename T>
inline T reversed(T a) {
    T result = 0;
    for (unsigned i = 0; i < 8 * sizeof(T); ++i) result |= T(a >> i & 1) << (8 * sizeof(T) - 1 - i);
    return result;
}

template <typename T, typename S>
inline T clamp(S value) {
    typedef std::numeric_limits<T> limits;
    if (std::is_signed<S>::value && (__int128)value < (__int128)limits::min()) return limits::min();
    return (__int128)value > (__int128)limits::max() ? limits::max() : T(value);
}

// ---------------------------------------------------------------- floats

template <typename T>
inline bool unordered(T a, T b) {
    return std::isnan(a) || std::isnan(b);
}

// A subnormal number becomes zero of its sign.
inline float flush(float value) {
    return fabsf(value) < std::numeric_limits<float>::min() ? copysignf(0, value) : value;
}

// To [0, 1]; NaN becomes 0.
template <typename T>
inline T saturate(T value) {
    return value > 0 ? (value < 1 ? value : T(1)) : T(0);
}

// -0 is less than 0. Of two NaNs, and of one where NaN wins, the result is the canonical NaN.
template <bool NAN_WINS, typename T>
inline T minimum(T a, T b) {
    if (unordered(a, b)) {
        if (NAN_WINS || (std::isnan(a) && std::isnan(b))) return std::numeric_limits<T>::quiet_NaN();
        return std::isnan(a) ? b : a;
    }
    return a < b || (a == b && std::signbit(a)) ? a : b;
}

template <bool NAN_WINS, typename T>
inline T maximum(T a, T b) {
    return -minimum<NAN_WINS>(-a, -b);
}

// A computation with another rounding mode. The values pass through memory, so that the compiler
// moves nothing across the change of the mode.
template <typename T, typename F>
inline T with_rounding(int direction, F compute) {
    const int before = fegetround();
    fesetround(direction);
    volatile T result = compute();
    fesetround(before);
    return result;
}

template <typename T>
inline T fma_directed(T a, T b, T c, int direction) {
    volatile T x = a, y = b, z = c;
    return with_rounding<T>(direction, [&] { return std::fma(T(x), T(y), T(z)); });
}

// The same for floats without a change of the mode, which would slow down the compiler's exp. Two
// floats have an exact product in double; what its sum with the third loses is known exactly, too.
inline float fma_directed(float a, float b, float c, int direction) {
    const double product = double(a) * b, sum = product + c;
    if (!std::isfinite(sum)) return float(sum);
    if (sum == 0) {
        const bool same = std::signbit(product) == std::signbit(c);
        const bool negative = same ? std::signbit(c) : direction == FE_DOWNWARD;
        return negative ? -0.0f : 0.0f;
    }
    const double of_c = sum - product;
    const double lost = (product - (sum - of_c)) + (c - of_c);
    const float nearest = float(sum);
    const double above = nearest - sum;
    if (direction == FE_TOWARDZERO) direction = sum < 0 ? FE_UPWARD : FE_DOWNWARD;
    if (direction == FE_DOWNWARD && above > lost) return nextafterf(nearest, -HUGE_VALF);
    if (direction == FE_UPWARD && above < lost) return nextafterf(nearest, HUGE_VALF);
    return nearest;
}

template <typename T>
inline T multiply_directed(T a, T b, int direction) {
    // A zero of the product's sign changes nothing in any direction.
    return fma_directed(a, b, std::signbit(a) != std::signbit(b) ? -T(0) : T(0), direction);
}

template <typename T>
inline T divide_directed(T a, T b, int direction) {
    volatile T x = a, y = b;
    return with_rounding<T>(direction, [&] { return x / y; });
}

inline float to_float_directed(double value, int direction) {
    volatile double x = value;
    return with_rounding<float>(direction, [&] { return float(x); });
}

template <typename T, typename S>
inline T from_integer_directed(S value, int direction) {
    volatile S x = value;
    return with_rounding<T>(direction, [&] { return T(x); });
}

// Out of range gives the nearest integer there is; NaN gives 0, or -2^63 in 64 bits or of a double.
template <typename T, typename S>
inline T to_integer(S value) {
    typedef std::numeric_limits<T> limits;
    if (std::isnan(value)) {
        const bool wide = sizeof(T) == 8 || sizeof(S) == 8;
        return wide ? T(uint64_t(1) << (8 * sizeof(T) - 1)) : T(0);
    }
    // The limits as floats are powers of two, exact, the upper one rounded up by one.
    if (value >= S(limits::max())) return limits::max();
    if (value <= S(limits::min())) return limits::min();
    return T(value);
}

}  // namespace ptx
