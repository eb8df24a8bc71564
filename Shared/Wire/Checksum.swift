import CPlatform

/// CRC-32C of a payload frame: finds our own bugs and bad memory chunk by chunk. Identity is the `Digest`.
package enum Checksum {
    package static func crc32c(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
        guard let address = bytes.baseAddress else { return crc }
        return cs_crc32c(crc, address, bytes.count)
    }
}
