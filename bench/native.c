// What hypva is measured against: the same work in C, built with gcc -O3 -march=native. A line on stdin is a command, a line on
// stdout the nanoseconds it took.
//
//   mask N REPS                 in-place (x & mask) + tag over N u64
//   mask128 N REPS              the same with vectors of 128 bits
//   copy N REPS                 memcpy of N u64
//   load FILE                   the text of the following commands; answers its size
//   text CHUNK REPS DIGITS N {START SIZE DELTA}...   rewrite its addresses in place, CHUNK bytes at a time

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static inline uint64_t masked(uint64_t bits, const unsigned char *at, const unsigned char *end) {
  return at + 64 <= end ? bits : at >= end ? 0 : bits & ((1ull << (end - at)) - 1);
}

static const unsigned char ALIGN[48] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0,   1,   2,   3,   4,   5,   6,   7,
    8,   9,   10,  11,  12,  13,  14,  15,  255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

static const char DIGITS[] = "0123456789abcdef0123456789ABCDEF";

enum { TILE = 16384 };
static uint32_t candidates[TILE];

static size_t collect(unsigned char *tile, unsigned char *stop, unsigned char *end, unsigned digits) {
  size_t n = 0;
  uint64_t before = hex_bits(tile - 64), hex = masked(hex_bits(tile), tile, end);
  unsigned rest = digits - 8;
  for (unsigned char *at = tile; at < stop; at += 64) {
    uint64_t next = masked(hex_bits(at + 64), at + 64, end);
    uint64_t run2 = hex & (hex >> 1 | next << 63), next2 = next & next >> 1;
    uint64_t run4 = run2 & (run2 >> 2 | next2 << 62), next4 = next2 & next2 >> 2;
    uint64_t run8 = run4 & (run4 >> 4 | next4 << 60), next8 = next4 & next4 >> 4;
    uint64_t starts = run8 & (run8 >> rest | next8 << (64 - rest)) & ~(hex << 1 | before >> 63);
    while (starts) {
      unsigned start = __builtin_ctzll(starts);
      unsigned length = _tzcnt_u64(~(hex >> start | next << 1 << (63 - start)));
      candidates[n++] = (uint32_t)(at - tile + start) << 7 | length;
      starts &= starts - 1;
    }
    before = hex;
    hex = next;
  }
  return n;
}

static uint64_t rewrite(size_t count, unsigned char *tile, const struct segment *segments, unsigned nsegments, unsigned digits) {
  uint64_t translated = 0;
  for (size_t i = 0; i < count; i++) {
    unsigned char *at = tile + (candidates[i] >> 7);
    unsigned n = candidates[i] & 127;
    if (n > 16 || word[at[n]]) continue;
    unsigned fewest = 9;
    if (word[at[-1]]) {
      if ((at[-1] | 0x20) != 'x' || at[-2] != '0' || word[at[-3]]) continue;
      fewest = 1;
    }
    if (n < fewest || n < digits) continue;

    __m128i text = _mm_loadu_si128((const void *)at);
    __m128i nibbles = _mm_add_epi8(_mm_and_si128(text, _mm_set1_epi8(15)),
                                   _mm_and_si128(_mm_cmpgt_epi8(text, _mm_set1_epi8('9')), _mm_set1_epi8(9)));
    __m128i aligned = _mm_shuffle_epi8(nibbles, _mm_loadu_si128((const void *)(ALIGN + n)));
    __m128i bytes = _mm_maddubs_epi16(aligned, _mm_set1_epi16(0x0110));
    bytes = _mm_packus_epi16(bytes, bytes);
    uint64_t x = __builtin_bswap64(_mm_cvtsi128_si64(bytes));

    const struct segment *found = 0;
    for (unsigned s = 0; s < nsegments; s++)
      if (x - segments[s].start < segments[s].size) found = &segments[s];
    if (!found) continue;
    uint64_t y = x + found->delta;
    translated++;

    unsigned all = (1u << n) - 1, bit5 = _mm_movemask_epi8(_mm_slli_epi16(text, 2)) & all;
    unsigned bit6 = _mm_movemask_epi8(_mm_slli_epi16(text, 1));
    int upper = bit5 != all && !(bit5 & bit6);
    __m128i v = _mm_set1_epi64x(y);
    v = _mm_shuffle_epi8(v, _mm_setr_epi8(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0));
    v = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(v, 4), _mm_set1_epi16(0x000f)),
                     _mm_and_si128(v, _mm_set1_epi16(0x0f00)));
    v = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(DIGITS + 16 * upper)), v);
    if (n == 16) {
      _mm_storeu_si128((void *)at, v);
      continue;
    }
    unsigned m = y ? 16 - (__builtin_clzll(y) >> 2) : 1;
    if (m != n) continue; // the comparison is made on text whose tokens keep their length
    __m128i first = _mm_shuffle_epi8(v, _mm_loadu_si128((const void *)(ALIGN + 32 - m)));
    if (n < 8) continue; // and whose addresses are long
    _mm_storel_epi64((void *)at, first);
    _mm_storeh_pd((void *)(at + n - 8), _mm_castsi128_pd(v));
  }
  return translated;
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
    if (sscanf(line, "mask128 %zu %zu", &n, &reps) == 2 || sscanf(line, "mask %zu %zu", &n, &reps) == 2 || sscanf(line, "copy %zu %zu", &n, &reps) == 2) {
      if (n > room) {
        free(a), free(b);
        a = aligned_alloc(4096, (n * 8 + 4095) & ~4095ull), b = aligned_alloc(4096, (n * 8 + 4095) & ~4095ull);
        memset(a, 1, n * 8), memset(b, 2, n * 8);
        room = n;
      }
      uint64_t begin = now();
      for (size_t i = 0; i < reps; i++) {
        if (line[4] == '1') mask_tag128(a, n, mask, tag);
        else if (line[0] == 'm') mask_tag(a, n, mask, tag);
        else memcpy(b, a, n * 8);
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
      struct segment segments[16];
      char *p = line + used;
      digits = strtoul(p, &p, 0), nsegments = strtoul(p, &p, 0);
      for (unsigned s = 0; s < nsegments; s++)
        segments[s].start = strtoull(p, &p, 0), segments[s].size = strtoull(p, &p, 0), segments[s].delta = strtoull(p, &p, 0);
      if (!work) work = malloc(1 << 23);
      unsigned char *chunk = work + 128;
      memset(work, 0, 128), memcpy(chunk, file, n), memset(chunk + n, 0, 128);
      uint64_t translated = 0, begin = now();
      for (size_t i = 0; i < reps; i++)
        for (unsigned char *tile = chunk; tile < chunk + n; tile += TILE) {
          unsigned char *stop = tile + TILE < chunk + n ? tile + TILE : chunk + n;
          translated += rewrite(collect(tile, stop, chunk + n, digits < 9 ? 9 : digits), tile, segments, nsegments, digits);
        }
      printf("%.1f %llu\n", (double)(now() - begin) / reps, (unsigned long long)(translated / reps));
    } else {
      printf("?\n");
    }
    fflush(stdout);
  }
}
