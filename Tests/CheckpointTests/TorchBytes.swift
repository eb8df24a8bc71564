import Foundation
import Tensor

/// Writes small ZIP files and pickles by hand, right and wrong ones.
struct TorchBytes {
    /// How a ZIP file is spoilt.
    enum Damage: CaseIterable, Sendable {
        case none, zip64, wrongChecksum, wrongDataChecksum, compressed, encrypted, twice, sizeBeyondEnd,
            wrongLocalHeader
    }

    /// A torch.save file of the given pickle and one storage `data/0`.
    static func file(_ pickle: [UInt8], storage: [UInt8] = [], damage: Damage = .none, comment: Int = 0) -> [UInt8] {
        var entries: [(String, [UInt8])] = [
            ("a/data.pkl", pickle), ("a/byteorder", Array("little".utf8)), ("a/data/0", storage),
        ]
        if damage == .twice { entries.append(("a/data/0", storage)) }
        var bytes: [UInt8] = [], directory: [UInt8] = []
        for (name, content) in entries {
            let offset = bytes.count
            var checksum = crc32(content)
            if damage == .wrongChecksum || (damage == .wrongDataChecksum && name == "a/data/0") { checksum ^= 1 }
            let flags: UInt16 = damage == .encrypted ? 1 : 0, method: UInt16 = damage == .compressed ? 8 : 0
            bytes += little(UInt32(damage == .wrongLocalHeader ? 0 : 0x0403_4b50)) + little(UInt16(20)) + little(flags)
            bytes += little(method) + [0, 0, 0, 0] + little(checksum) + little(UInt32(content.count))
            bytes +=
                little(UInt32(content.count)) + little(UInt16(name.utf8.count)) + little(UInt16(0)) + Array(name.utf8)
            bytes += content
            let size = UInt64(content.count) + (damage == .sizeBeyondEnd ? 1 << 20 : 0)
            directory += little(UInt32(0x0201_4b50)) + little(UInt16(45)) + little(UInt16(45)) + little(flags)
            directory += little(method) + [0, 0, 0, 0] + little(checksum)
            let extra =
                damage == .zip64
                ? little(UInt16(1)) + little(UInt16(24)) + little(size) + little(size) + little(UInt64(offset)) : []
            let isLarge = damage == .zip64
            directory += little(isLarge ? UInt32.max : UInt32(size)) + little(isLarge ? UInt32.max : UInt32(size))
            directory +=
                little(UInt16(name.utf8.count)) + little(UInt16(extra.count)) + little(UInt16(0)) + [
                    0, 0, 0, 0, 0, 0, 0, 0,
                ]
            directory += little(isLarge ? UInt32.max : UInt32(offset)) + Array(name.utf8) + extra
        }
        let start = bytes.count
        bytes += directory
        if damage == .zip64 {
            let end = bytes.count
            bytes += little(UInt32(0x0606_4b50)) + little(UInt64(44)) + [45, 0, 45, 0] + little(UInt64(0))
            bytes += little(UInt64(entries.count)) + little(UInt64(entries.count)) + little(UInt64(directory.count))
            bytes +=
                little(UInt64(start)) + little(UInt32(0x0706_4b50)) + little(UInt32(0)) + little(UInt64(end))
                + little(UInt32(1))
        }
        let large = damage == .zip64
        bytes += little(UInt32(0x0605_4b50)) + [0, 0, 0, 0] + little(large ? UInt16.max : UInt16(entries.count))
        bytes +=
            little(large ? UInt16.max : UInt16(entries.count)) + little(large ? UInt32.max : UInt32(directory.count))
        bytes +=
            little(large ? UInt32.max : UInt32(start)) + little(UInt16(comment))
            + [UInt8](repeating: 0x20, count: comment)
        return bytes
    }

    /// A pickle of protocol 2 around `body`.
    static func pickle(_ body: [UInt8]) -> [UInt8] { [0x80, 2] + body + Array(".".utf8) }

    static func text(_ value: String) -> [UInt8] {
        Array("X".utf8) + little(UInt32(value.utf8.count)) + Array(value.utf8)
    }

    static func name(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }

    static func integer(_ value: Int) -> [UInt8] { Array("J".utf8) + little(UInt32(truncatingIfNeeded: value)) }

    static func tuple(_ items: [[UInt8]]) -> [UInt8] { Array("(".utf8) + items.joined() + Array("t".utf8) }

    /// A tensor over `data/0`.
    static func tensor(
        _ type: String = "FloatStorage", count: Int, offset: Int = 0, shape: [Int], strides: [Int]
    ) -> [UInt8] {
        let storage =
            tuple([text("storage"), name("torch", type), text("0"), text("cpu"), integer(count)]) + Array("Q".utf8)
        let arguments = tuple([
            storage, integer(offset), tuple(shape.map(integer)), tuple(strides.map(integer)), [0x89],
            name("collections", "OrderedDict") + Array(")R".utf8),
        ])
        return name("torch._utils", "_rebuild_tensor_v2") + arguments + Array("R".utf8)
    }

    /// `{"w": value}`.
    static func dictionary(_ value: [UInt8]) -> [UInt8] { Array("}".utf8) + text("w") + value + Array("s".utf8) }

    static func little<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian, Array.init)
    }

    /// Bit by bit, so that it shares nothing with the reader's.
    private static func crc32(_ bytes: [UInt8]) -> UInt32 {
        var crc = UInt32.max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0xEDB8_8320 : crc >> 1 }
        }
        return ~crc
    }
}
