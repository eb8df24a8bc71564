import Tensor

/// How a stored picture must be turned to be seen upright, numbered as in EXIF.
enum PictureOrientation: Int, Sendable, CaseIterable {
    case upright = 1
    case mirrored
    case upsideDown
    case flipped
    /// Rows become columns.
    case transposed
    /// To be turned a quarter clockwise.
    case clockwise
    case transversed
    /// To be turned a quarter counterclockwise.
    case counterclockwise

    var swapsSides: Bool { rawValue >= 5 }

    /// Where a step to the right and a step down in the upright picture lead in the stored one.
    private var steps: (right: (x: Int, y: Int), down: (x: Int, y: Int)) {
        switch self {
        case .upright: ((1, 0), (0, 1))
        case .mirrored: ((-1, 0), (0, 1))
        case .upsideDown: ((-1, 0), (0, -1))
        case .flipped: ((1, 0), (0, -1))
        case .transposed: ((0, 1), (1, 0))
        case .clockwise: ((0, -1), (1, 0))
        case .transversed: ((0, -1), (-1, 0))
        case .counterclockwise: ((0, 1), (-1, 0))
        }
    }

    /// The orientation of a display matrix in the notation of MP4: x′ = a·x + c·y, y′ = b·x + d·y, y pointing down.
    /// Nil for anything but quarter turns and mirrors.
    init?(a: Int32, b: Int32, c: Int32, d: Int32) {
        func step(_ x: Int32, _ y: Int32) -> (x: Int, y: Int) { (Int(x.signum()), Int(y.signum())) }
        guard (b == 0 && c == 0 && a != 0 && d != 0) || (a == 0 && d == 0 && b != 0 && c != 0) else { return nil }
        // The inverse of a matrix of quarter turns is its transpose.
        let (right, down) = (step(a, c), step(b, d))
        guard let found = Self.allCases.first(where: { $0.steps.right == right && $0.steps.down == down }) else {
            return nil
        }
        self = found
    }

    /// The picture `[H, W, 3]` turned upright.
    func upright(_ picture: Tensor) -> Tensor {
        if self == .upright { return picture }
        let (height, width) = (picture.shape[0], picture.shape[1])
        let (newHeight, newWidth) = swapsSides ? (width, height) : (height, width)
        let (right, down) = steps
        let startX = right.x + down.x < 0 ? width - 1 : 0
        let startY = right.y + down.y < 0 ? height - 1 : 0
        let rightStep = (right.y * width + right.x) * 3, downStep = (down.y * width + down.x) * 3
        var result = Tensor(uninitialized: [newHeight, newWidth, 3], dtype: .uint8)
        result.withUnsafeMutableBytes { target in
            picture.withUnsafeBytes { source in
                var place = 0
                for y in 0..<newHeight {
                    var from = (startY * width + startX) * 3 + y * downStep
                    for _ in 0..<newWidth {
                        target[place] = source[from]
                        target[place + 1] = source[from + 1]
                        target[place + 2] = source[from + 2]
                        place += 3
                        from += rightStep
                    }
                }
            }
        }
        return result
    }
}
