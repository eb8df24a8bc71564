import CFFmpeg

/// Which libraries encode and decode.
package enum MediaLibraries {
    /// Versions by name: the bytes of a file may differ from one to another, its frames do not.
    package static var versions: [String: String] {
        ["avcodec": text(avcodec_version()), "avformat": text(avformat_version()), "swscale": text(swscale_version())]
    }

    private static func text(_ version: UInt32) -> String {
        "\(version >> 16).\(version >> 8 & 0xff).\(version & 0xff)"
    }
}
