// Six small computations for bench/meter.py, each about a third of a second, each printing what it found.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static double nbody(void) {
  double p[5][3], v[5][3], m[5];
  for (int i = 0; i < 5; i++) {
    m[i] = 1.0 / (i + 1);
    for (int k = 0; k < 3; k++) p[i][k] = i * 1.3 + k * k, v[i][k] = 0.1 * (i - k);
  }
  for (int step = 0; step < 400000; step++) {
    for (int i = 0; i < 5; i++)
      for (int j = i + 1; j < 5; j++) {
        double d[3], far = 0.01;
        for (int k = 0; k < 3; k++) d[k] = p[i][k] - p[j][k], far += d[k] * d[k];
        double pull = 0.001 / (far * __builtin_sqrt(far));
        for (int k = 0; k < 3; k++) v[i][k] -= d[k] * m[j] * pull, v[j][k] += d[k] * m[i] * pull;
      }
    for (int i = 0; i < 5; i++)
      for (int k = 0; k < 3; k++) p[i][k] += 0.001 * v[i][k];
  }
  return p[0][0] + p[4][2];
}

static double matmul(void) {
  enum { N = 400 };
  static double a[N][N], b[N][N], c[N][N];
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) a[i][j] = i - j, b[i][j] = i + j;
  for (int i = 0; i < N; i++)
    for (int k = 0; k < N; k++)
      for (int j = 0; j < N; j++) c[i][j] += a[i][k] * b[k][j];
  return c[N - 1][N - 1];
}

static int sieve(void) {
  enum { N = 5000000 };
  static char composite[N];
  int found = 0;
  for (int round = 0; round < 4; round++) {
    memset(composite, 0, N);
    found = 0;
    for (int i = 2; i < N; i++) {
      if (composite[i]) continue;
      found++;
      for (int64_t j = (int64_t)i * i; j < N; j += i) composite[j] = 1;
    }
  }
  return found;
}

static uint32_t turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static uint32_t sha256(void) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint32_t w[64], k[64];
  for (int i = 0; i < 64; i++) k[i] = 0x428a2f98u * (i + 1);  // the shape of the work, not the digest
  for (uint32_t block = 0; block < 400000; block++) {
    for (int i = 0; i < 16; i++) w[i] = block * 31 + i;
    for (int i = 16; i < 64; i++) {
      uint32_t s0 = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3;
      uint32_t s1 = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t s[8];
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
      uint32_t one = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
      uint32_t two = (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      memmove(s + 1, s, 7 * sizeof *s);
      s[4] += one;
      s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
  }
  return h[0];
}

static int order(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static uint32_t sort(void) {
  enum { N = 1000000 };
  static uint32_t list[N];
  uint32_t x = 1;
  for (int i = 0; i < N; i++) list[i] = x = x * 1664525 + 1013904223;
  qsort(list, N, sizeof *list, order);
  return list[N / 2];
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "fib")) printf("%d\n", fib(36));
  else if (!strcmp(what, "nbody")) printf("%.12f\n", nbody());
  else if (!strcmp(what, "matmul")) printf("%.1f\n", matmul());
  else if (!strcmp(what, "sieve")) printf("%d\n", sieve());
  else if (!strcmp(what, "sha256")) printf("%08x\n", sha256());
  else if (!strcmp(what, "sort")) printf("%u\n", sort());
  else return 2;
  return 0;
}
