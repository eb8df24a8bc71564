import CPlatform
import TestSupport
import Testing
import Wire

@Suite struct ChecksumTests {
    @Test("CRC-32C of the RFC 3720 vectors")
    func publishedVectors() {
        func crc(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { Checksum.crc32c($0) } }
        #expect(crc([]) == 0)
        #expect(crc(Array("123456789".utf8)) == 0xe306_9283)
        #expect(crc([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
        #expect(crc([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
        #expect(crc(Array(0..<32)) == 0x46dd_794e)
    }

    @Test("the processor's CRC instruction and the table agree at every length and alignment")
    func tableFallback() {
        var generator = SeededGenerator(seed: 7)
        let bytes = (0..<600).map { _ in UInt8.random(in: 0...255, using: &generator) }
        bytes.withUnsafeBytes { all in
            for start in 0..<9 {
                for end in start..<(start + 300) {
                    let slice = UnsafeRawBufferPointer(rebasing: all[start..<end])
                    #expect(
                        cs_crc32c(5, slice.baseAddress, slice.count)
                            == cs_crc32c_table(5, slice.baseAddress, slice.count))
                }
            }
        }
    }

    @Test("a checksum may be computed piece by piece")
    func pieces() {
        let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        bytes.withUnsafeBytes { all in
            for cut in [0, 1, 7, 8, 9, 500, 1000] {
                let first = Checksum.crc32c(UnsafeRawBufferPointer(rebasing: all[..<cut]))
                #expect(
                    Checksum.crc32c(UnsafeRawBufferPointer(rebasing: all[cut...]), continuing: first)
                        == Checksum.crc32c(all))
            }
        }
    }

    @Test("SHA-256 of the FIPS 180-4 examples, in one piece and in two")
    func digests() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(Digest.of(Array("abc".utf8)).description == abc)
        var hasher = DigestHasher()
        Array("a".utf8).withUnsafeBytes { hasher.update($0) }
        Array("bc".utf8).withUnsafeBytes { hasher.update($0) }
        #expect(hasher.finalize().description == abc)
        #expect(Digest(hexadecimal: abc)?.description == abc)
        #expect(Digest(hexadecimal: String(abc.dropLast())) == nil)
    }
}
