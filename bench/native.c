// What hypva is measured against: the same work in C, built with gcc -O3 -march=native. A line on stdin is a command, a line on
// stdout the nanoseconds it took.
//
//   mask N REPS                 in-place (x & mask) + tag over N u64
//   mask128 N REPS              the same with vectors of 128 bits
//   copy N REPS                 memcpy of N u64
//   checked N REPS              N u64 in place through three segments that they lie in in turns
//   checked128 N REPS           the same with vectors of 128 bits
//   load FILE                   the text of the following commands; answers its size
//   text CHUNK REPS DIGITS N {START SIZE DELTA}...   rewrite addresses of DIGITS (9 … 16) and more digits in place, in N <= 2
//                               segments, CHUNK bytes at a time: the steps of assembly/text.ts

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Keeps results from being optimized away. */
static volatile uint64_t sink;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

__attribute__((noinline)) static void mask_tag(uint64_t *x, size_t n, uint64_t mask, uint64_t tag) {
  for (size_t i = 0; i < n; i++) x[i] = (x[i] & mask) + tag;
}

/* The same with vectors of 128 bits, which is all that WebAssembly has. */
__attribute__((noinline, target("prefer-vector-width=128"))) static void mask_tag128(uint64_t *x, size_t n, uint64_t mask, uint64_t tag) {
  for (size_t i = 0; i < n; i++) x[i] = (x[i] & mask) + tag;
}

struct segment {
  uint64_t start, size, delta;
};

/* Looks each address up in three segments, as vectors do it: all three are tried. Returns how many translate. */
#define CHECKED(x, n, s)                                                                                               \
  uint64_t hits = 0;                                                                                                   \
  for (size_t i = 0; i < n; i++) {                                                                                     \
    uint64_t a = x[i] - s[0].start < s[0].size, b = x[i] - s[1].start < s[1].size, c = x[i] - s[2].start < s[2].size;  \
    x[i] += (-a & s[0].delta) | (-b & s[1].delta) | (-c & s[2].delta);                                                 \
    hits += a | b | c;                                                                                                 \
  }                                                                                                                    \
  return hits;
__attribute__((noinline)) static uint64_t checked(uint64_t *x, size_t n, const struct segment *s) { CHECKED(x, n, s) }
__attribute__((noinline, target("avx2,no-avx512f,prefer-vector-width=128"))) static uint64_t checked128(uint64_t *x, size_t n, const struct segment *s) {
  CHECKED(x, n, s)
}

static unsigned char word[256];

static inline __m256i is_hex(__m256i x) {
  __m256i digit = _mm256_cmpgt_epi8(_mm256_add_epi8(x, _mm256_set1_epi8(0x46)), _mm256_set1_epi8(0x75));
  __m256i letter = _mm256_add_epi8(_mm256_or_si256(x, _mm256_set1_epi8(0x20)), _mm256_set1_epi8(0x19));
  return _mm256_or_si256(digit, _mm256_cmpgt_epi8(letter, _mm256_set1_epi8(0x79)));
}

static inline uint64_t hex_bits(const unsigned char *p) {
  uint64_t a = (uint32_t)_mm256_movemask_epi8(is_hex(_mm256_loadu_si256((const void *)p)));
  uint64_t b = (uint32_t)_mm256_movemask_epi8(is_hex(_mm256_loadu_si256((const void *)(p + 32))));
  return a | b << 32;
}

/* 0 … 15 and sixteen 0xff; 15 … 0 and sixteen 0xff. */
static const unsigned char FORWARD[32] = {0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13,  14,  15,
                                          255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
static const unsigned char REVERSE[32] = {15,  14,  13,  12,  11,  10,  9,   8,   7,   6,   5,   4,   3,   2,   1,   0,
                                          255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

static const char DIGITS[] = "0123456789abcdef0123456789ABCDEF";

/* As in assembly/text.ts: tiles of whole strides, 48 bytes decided on a turn of 64. */
enum { STRIDE = 48, TILE = 170 * STRIDE };
static uint32_t candidates[TILE];
static unsigned char nowhere[16];

static inline void keep(uint32_t *list, uint32_t offset, uint64_t starts, uint64_t hex, int sixteen) {
  uint32_t start = _tzcnt_u64(starts);
  *list = (offset + start) << 7 | (sixteen ? 16 : (uint32_t)_tzcnt_u64(~(hex >> (start & 63))));
}

static inline __attribute__((always_inline)) size_t collect_runs(unsigned char *tile, unsigned char *stop, unsigned rest, int sixteen) {
  uint32_t *list = candidates;
  for (unsigned char *at = tile; at < stop; at += STRIDE) {
    uint64_t hex = hex_bits(at - 1), run2 = hex & hex >> 1, run4 = run2 & run2 >> 2, run8 = run4 & run4 >> 4;
    uint64_t starts = run8 & run8 >> rest & ~(hex << 1) & 0x1fffffffffffe;
    if (!starts) continue;
    uint64_t second = starts & (starts - 1), third = second & (second - 1);
    uint32_t offset = at - tile - 1;
    size_t found = _mm_popcnt_u64(starts);
    keep(list, offset, starts, hex, sixteen);
    keep(list + 1, offset, second, hex, sixteen);
    keep(list + 2, offset, third, hex, sixteen);
    if (found > 3)
      for (uint32_t *more = list + 3; (third &= third - 1); more++) keep(more, offset, third, hex, sixteen);
    list += found;
  }
  while (list > candidates && tile + (list[-1] >> 7) >= stop) list--;
  return list - candidates;
}
__attribute__((noinline)) static size_t collect_sixteen(unsigned char *tile, unsigned char *stop) {
  return collect_runs(tile, stop, 8, 1);
}
__attribute__((noinline)) static size_t collect_long(unsigned char *tile, unsigned char *stop, unsigned rest) {
  return collect_runs(tile, stop, rest, 0);
}

static inline __attribute__((always_inline)) uint64_t rewrite(size_t count, unsigned char *tile, const struct segment *segments, int sixteen) {
  uint64_t tokens = 0, translated = 0;
  unsigned char *miss = (unsigned char *)-1;
  const __m128i sign = _mm_set1_epi64x(INT64_MIN);
  const __m128i starts = _mm_xor_si128(_mm_set_epi64x(segments[1].start, segments[0].start), sign);
  const __m128i sizes = _mm_xor_si128(_mm_set_epi64x(segments[1].size, segments[0].size), sign);
  const __m128i deltas = _mm_set_epi64x(segments[1].delta, segments[0].delta);
  for (size_t i = 0; i < count; i++) {
    unsigned char *at = tile + (candidates[i] >> 7), *begin = at;
    unsigned n = sixteen ? 16 : candidates[i] & 127;
    if (n > 16) continue;
    if (word[at[-1]] | word[at[n]]) {
      if (word[at[n]] || (at[-1] | 0x20) != 'x' || at[-2] != '0' || word[at[-3]]) continue;
      begin = at - 2;
    }
    __m128i text = _mm_shuffle_epi8(_mm_loadu_si128((const void *)at), _mm_loadu_si128((const void *)(REVERSE + 16 - n)));
    __m128i letters = _mm_cmpgt_epi8(text, _mm_set1_epi8('9'));
    __m128i nibbles = _mm_add_epi8(_mm_and_si128(text, _mm_set1_epi8(15)), _mm_and_si128(letters, _mm_set1_epi8(9)));
    __m128i bytes = _mm_maddubs_epi16(nibbles, _mm_set1_epi16(0x1001));
    __m128i x = _mm_packus_epi16(bytes, bytes);

    __m128i within = _mm_cmpgt_epi64(sizes, _mm_sub_epi64(x, starts));
    __m128i delta = _mm_and_si128(within, deltas);
    __m128i y = _mm_add_epi64(x, _mm_or_si128(delta, _mm_shuffle_epi32(delta, 0x4e)));
    unsigned hit = _mm_movemask_pd(_mm_castsi128_pd(within)) != 0;

    __m128i lower = _mm_slli_epi16(text, 2);
    int upper = _mm_movemask_epi8(_mm_andnot_si128(lower, letters)) && !_mm_movemask_epi8(_mm_and_si128(lower, letters));
    __m128i v = _mm_shuffle_epi8(y, _mm_setr_epi8(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0));
    v = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi16(0x000f)),
                     _mm_and_si128(v, _mm_set1_epi16(0x0f00)));
    v = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(DIGITS + 16 * upper)), v);
    unsigned char *to = hit ? at : nowhere;
    if (n == 16) {
      _mm_storeu_si128((void *)to, v);
    } else {
      /* The comparison is made on text whose tokens keep their length. */
      if (hit && (__builtin_clzll(_mm_cvtsi128_si64(y) | 1) >> 2) + n != 16) break;
      _mm_storel_epi64((void *)to, _mm_shuffle_epi8(v, _mm_loadu_si128((const void *)(FORWARD + 16 - n))));
      _mm_storeh_pd((void *)(to + n - 8), _mm_castsi128_pd(v));
    }
    tokens++;
    translated += hit;
    begin = hit ? (unsigned char *)-1 : begin;
    miss = begin < miss ? begin : miss;
  }
  sink = (uint64_t)miss + tokens;
  return translated;
}
__attribute__((noinline)) static uint64_t rewrite_sixteen(size_t count, unsigned char *tile, const struct segment *segments) {
  return rewrite(count, tile, segments, 1);
}
__attribute__((noinline)) static uint64_t rewrite_long(size_t count, unsigned char *tile, const struct segment *segments) {
  return rewrite(count, tile, segments, 0);
}

int main(void) {
  for (int c = 0; c < 256; c++) word[c] = (unsigned)((c | 0x20) - 'a') < 26 || (unsigned)(c - '0') < 10 || c == '_';
  const uint64_t mask = 0x7fffffffull, tag = 0x89b380000000ull;
  char line[4096], name[4096];
  unsigned char *file = 0, *work = 0;
  size_t size = 0, room = 0;
  uint64_t *a = 0, *b = 0;
  while (fgets(line, sizeof line, stdin)) {
    size_t n, reps;
    int used;
    if (sscanf(line, "%15s %zu %zu", name, &n, &reps) == 3 && strcmp(name, "load") && strcmp(name, "text")) {
      /* Onto themselves, so that what was translated is the same input again. */
      const struct segment banks[3] = {{1ull << 40, 1 << 30, 0}, {2ull << 40, 1 << 30, 0}, {3ull << 40, 1 << 30, 0}};
      if (n > room) {
        free(a), free(b);
        a = aligned_alloc(4096, (n * 8 + 4095) & ~4095ull), b = aligned_alloc(4096, (n * 8 + 4095) & ~4095ull);
        memset(a, 1, n * 8), memset(b, 2, n * 8);
        room = n;
      }
      if (!strncmp(name, "checked", 7))
        for (size_t i = 0; i < n; i++) a[i] = banks[i % 3].start + i % 4096;
      uint64_t begin = now();
      for (size_t i = 0; i < reps; i++) {
        if (!strcmp(name, "mask")) mask_tag(a, n, mask, tag);
        else if (!strcmp(name, "mask128")) mask_tag128(a, n, mask, tag);
        else if (!strcmp(name, "copy")) memcpy(b, a, n * 8);
        else if (!strcmp(name, "checked")) sink = checked(a, n, banks);
        else if (!strcmp(name, "checked128")) sink = checked128(a, n, banks);
        else return 1;
        __asm__ volatile("" ::: "memory");
      }
      printf("%.1f\n", (double)(now() - begin) / reps);
    } else if (sscanf(line, "load %4095s", name) == 1) {
      FILE *in = fopen(name, "rb");
      if (!in) return 1;
      fseek(in, 0, SEEK_END), size = ftell(in), rewind(in);
      free(file), file = malloc(size);
      if (fread(file, 1, size, in) != size) return 1;
      fclose(in);
      printf("%zu\n", size);
    } else if (sscanf(line, "text %zu %zu %n", &n, &reps, &used) == 2) {
      unsigned digits, nsegments;
      struct segment segments[2] = {{0, 0, 0}, {0, 0, 0}};
      char *p = line + used;
      digits = strtoul(p, &p, 0), nsegments = strtoul(p, &p, 0);
      if (digits < 9 || digits > 16 || nsegments > 2) return 1;
      for (unsigned s = 0; s < nsegments; s++)
        segments[s].start = strtoull(p, &p, 0), segments[s].size = strtoull(p, &p, 0), segments[s].delta = strtoull(p, &p, 0);
      if (!work) work = malloc(1 << 23);
      unsigned char *chunk = work + 128;
      memset(work, 0, 128), memcpy(chunk, file, n), memset(chunk + n, 0, 128);
      uint64_t translated = 0, begin = now();
      for (size_t i = 0; i < reps; i++)
        for (unsigned char *tile = chunk; tile < chunk + n; tile += TILE) {
          unsigned char *stop = tile + TILE < chunk + n ? tile + TILE : chunk + n;
          translated += digits == 16 ? rewrite_sixteen(collect_sixteen(tile, stop), tile, segments)
                                     : rewrite_long(collect_long(tile, stop, digits - 8), tile, segments);
        }
      printf("%.1f %llu\n", (double)(now() - begin) / reps, (unsigned long long)(translated / reps));
    } else {
      printf("?\n");
    }
    fflush(stdout);
  }
}
