#ifndef CS_CRC32C_H
#define CS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected, as in iSCSI, RFC 3720 B.4).
///
/// `crc` is 0 for the first piece and the previous result for the next one:
/// `cs_crc32c(cs_crc32c(0, a), b) == cs_crc32c(0, a ++ b)`.
uint32_t cs_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same by table lookup, whatever the processor: the fallback, and what tests compare with.
uint32_t cs_crc32c_table(uint32_t crc, const void *bytes, size_t count);

#endif
