// The simulator's runtime as one translation unit; internal.h says what its parts are.
#include "internal.h"

#include "arena.cpp"
#include "findings.cpp"
#include "scheduler.cpp"
#include "statistics.cpp"

#include "checks.cpp"
#include "launch.cpp"
