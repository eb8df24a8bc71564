import Failure

/// The comment extension of a GIF (GIF89a §24), which FFmpeg's muxer does not write.
enum GIFComment {
    /// Inserts `comment` after the header, the global colour table and the loop extension of the GIF at `path`.
    static func insert(_ comment: String, into path: String) throws(Failure) {
        let file = try fileBytes(path)
        guard file.count > 13, file.starts(with: "GIF89a".utf8) else {
            throw Failure("video_write_failed", "\(path) is not a GIF.", field: "output")
        }
        var position = 13
        if file[10] & 0x80 != 0 { position += 3 << ((Int(file[10]) & 7) + 1) }
        while position + 2 < file.count, file[position] == 0x21, file[position + 1] == 0xff {
            position += 2
            while position < file.count, file[position] != 0 { position += Int(file[position]) + 1 }
            position += 1
        }
        guard position <= file.count else {
            throw Failure("video_write_failed", "\(path) ends within its header.", field: "output")
        }
        var block: [UInt8] = [0x21, 0xfe]
        var rest = Array(comment.utf8)[...]
        while !rest.isEmpty {
            block.append(UInt8(min(rest.count, 255)))
            block += rest.prefix(255)
            rest = rest.dropFirst(255)
        }
        block.append(0)
        try replaceFile(path, with: file[..<position] + block + file[position...], code: "video_write_failed")
    }
}
