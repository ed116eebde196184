// What the kernels keep for themselves between SEGMENTS and HEAP; no host needs it.
//
//   0x8000  CANDIDATES  runs of digits that the text scan collected, for one tile
//  0x10000  VALUES      the addresses among them
//  0x18000  PAIRS       segments for the text kernel, two a vector
//  0x18200  SPLATS      the same for the batch kernel, one a vector
//  0x18600  NOWHERE     writes that nobody reads
//  0x18800  TOKENS      what else the naming kernel keeps of the tokens

/** RESULT_FIRST_MISS when everything translated. */
export const NO_MISS: u64 = u64.MAX_VALUE

/** Bytes of text a tile: small enough that it stays in the first-level cache with the lists made of it; a multiple of 96. */
export const TEXT_TILE: u32 = 8160
/** Two u32 for each run of digits in a tile; a run and what ends it take two bytes at least. See runs.ts. */
export const CANDIDATES: usize = 0x8000
/** A u64 and a u32 for each token among them. */
export const VALUES: usize = 0x10000
export const TOKENS: usize = 0x18800

/** Up to eight entries of three vectors for two segments: their starts, sizes and deltas, see fillPairs of text.ts. */
export const PAIRS: usize = 0x18000
export const PAIR_BYTES: usize = 48
/** Up to sixteen entries of three vectors: start, size and delta of a segment in both lanes, see fillSplats of segments.ts. */
export const SPLATS: usize = 0x18200
/** Sixteen bytes. */
export const NOWHERE: usize = 0x18600
