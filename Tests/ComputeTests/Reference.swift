import Compute
import Tensor
import TestSupport
import Testing

/// Plain loops in double precision: what every operation is compared with.
enum Reference {
    static func linear(_ x: Tensor, _ weight: Tensor, bias: Tensor?, activation: Activation) -> Tensor {
        let rows = x.shape[0], inputs = x.shape[1], outputs = weight.shape[0]
        let a = x.floats(), w = weight.floats(), b = bias?.floats()
        var y = [Float](repeating: 0, count: rows * outputs)
        for row in 0..<rows {
            for output in 0..<outputs {
                var sum = Double(b?[output] ?? 0)
                for input in 0..<inputs { sum += Double(a[row * inputs + input]) * Double(w[output * inputs + input]) }
                y[row * outputs + output] = Float(activate(sum, activation))
            }
        }
        return Tensor(y, shape: [rows, outputs])
    }

    static func activate(_ x: Double, _ activation: Activation) -> Double {
        switch activation {
        case .none: x
        case .silu: x / (1 + exponential(-x))
        case .geluTanh: x / (1 + exponential(-2 * (2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
        }
    }

    /// LayerNorm of one span of values with its own affine parameters.
    static func normalize(_ x: [Double], epsilon: Double, weight: [Float]?, bias: [Float]?) -> [Double] {
        let mean = x.reduce(0, +) / Double(x.count)
        let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)
        return x.indices.map {
            (x[$0] - mean) / (variance + epsilon).squareRoot() * Double(weight?[$0] ?? 1) + Double(bias?[$0] ?? 0)
        }
    }

    static func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, scale: Float, bias: Tensor?) -> Tensor {
        let queries = q.shape[0], keys = k.shape[0], channels = q.shape[1], size = channels / heads
        let a = q.floats(), b = k.floats(), c = v.floats(), d = bias?.floats()
        var y = [Float](repeating: 0, count: queries * channels)
        for head in 0..<heads {
            for query in 0..<queries {
                var scores = [Double](repeating: 0, count: keys)
                for key in 0..<keys {
                    for i in 0..<size {
                        scores[key] +=
                            Double(a[query * channels + head * size + i])
                            * Double(b[key * channels + head * size + i])
                    }
                    scores[key] = scores[key] * Double(scale) + Double(d?[(head * queries + query) * keys + key] ?? 0)
                }
                let top = scores.max() ?? 0
                let weights = scores.map { exponential($0 - top) }
                let total = weights.reduce(0, +)
                for i in 0..<size {
                    let sum = (0..<keys).reduce(0.0) { $0 + weights[$1] * Double(c[$1 * channels + head * size + i]) }
                    y[query * channels + head * size + i] = Float(sum / total)
                }
            }
        }
        return Tensor(y, shape: q.shape)
    }

    static func convolution(_ x: Tensor, _ weight: Tensor, bias: Tensor?, residual: Tensor?) -> Tensor {
        let (kt, kh, kw) = (weight.shape[2], weight.shape[3], weight.shape[4])
        let (height, width, inputs, outputs) = (x.shape[1], x.shape[2], x.shape[3], weight.shape[0])
        let frames = x.shape[0] - kt + 1
        let a = x.floats(), w = weight.floats(), b = bias?.floats(), r = residual?.floats()
        var y = [Float](repeating: 0, count: frames * height * width * outputs)
        func sum(_ t: Int, _ i: Int, _ j: Int, _ output: Int) -> Double {
            var sum = Double(b?[output] ?? 0)
            for dt in 0..<kt {
                for di in 0..<kh where (0..<height).contains(i + di - kh / 2) {
                    for dj in 0..<kw where (0..<width).contains(j + dj - kw / 2) {
                        let pixel = ((t + dt) * height + i + di - kh / 2) * width + j + dj - kw / 2
                        for input in 0..<inputs {
                            let tap = (((output * inputs + input) * kt + dt) * kh + di) * kw + dj
                            sum += Double(a[pixel * inputs + input]) * Double(w[tap])
                        }
                    }
                }
            }
            return sum
        }
        for t in 0..<frames {
            for i in 0..<height {
                for j in 0..<width {
                    for output in 0..<outputs {
                        let index = ((t * height + i) * width + j) * outputs + output
                        y[index] = Float(sum(t, i, j, output) + Double(r?[index] ?? 0))
                    }
                }
            }
        }
        return Tensor(y, shape: [frames, height, width, outputs])
    }

    /// Rows rounded to 255 steps of their largest magnitude.
    static func int8Rows(_ x: Tensor) -> Tensor {
        let width = x.shape[1]
        var values = x.floats()
        for row in 0..<x.shape[0] {
            let range = row * width..<(row + 1) * width
            let top = values[range].reduce(0) { max($0, abs($1)) }, step = top > 0 ? top / 127 : 1
            for index in range { values[index] = (values[index] * (1 / step)).rounded(.toNearestOrEven) * step }
        }
        return Tensor(values, shape: x.shape)
    }

    /// Every pixel twice in both directions.
    static func enlarged(_ x: Tensor) -> Tensor {
        let height = x.shape[1], width = x.shape[2], channels = x.shape[3], values = x.floats()
        var result: [Float] = []
        for frame in 0..<x.shape[0] {
            for row in 0..<2 * height {
                for column in 0..<2 * width {
                    let first = ((frame * height + row / 2) * width + column / 2) * channels
                    result += values[first..<first + channels]
                }
            }
        }
        return Tensor(result, shape: [x.shape[0], 2 * height, 2 * width, channels])
    }

    /// Every second pixel in both directions, the first at (1, 1): where a kernel with stride 2 and zeros only below and
    /// to the right stands.
    static func everySecond(_ x: Tensor) -> Tensor {
        let height = x.shape[1], width = x.shape[2], channels = x.shape[3], values = x.floats()
        var result: [Float] = []
        for frame in 0..<x.shape[0] {
            for row in 0..<height / 2 {
                for column in 0..<width / 2 {
                    let first = ((frame * height + 2 * row + 1) * width + 2 * column + 1) * channels
                    result += values[first..<first + channels]
                }
            }
        }
        return Tensor(result, shape: [x.shape[0], height / 2, width / 2, channels])
    }

    static func groupNorm(_ x: Tensor, groups: Int, epsilon: Float, weight: Tensor, bias: Tensor) -> Tensor {
        let channels = x.shape.last ?? 1, pixels = x.count / channels, size = channels / groups
        let a = x.floats(), w = weight.floats(), b = bias.floats()
        var y = [Float](repeating: 0, count: a.count)
        for group in 0..<groups {
            let indices = (0..<pixels).flatMap { p in (0..<size).map { p * channels + group * size + $0 } }
            let normal = normalize(indices.map { Double(a[$0]) }, epsilon: Double(epsilon), weight: nil, bias: nil)
            for (index, value) in zip(indices, normal) {
                y[index] = Float(value * Double(w[index % channels]) + Double(b[index % channels]))
            }
        }
        return Tensor(y, shape: x.shape)
    }

    /// eˣ for double without a math library: halve until small, Taylor, square back.
    static func exponential(_ x: Double) -> Double {
        if x < -700 { return 0 }
        if x > 700 { return .infinity }
        let halvings = 12, small = x / Double(1 << halvings)
        var term = 1.0, sum = 1.0
        for n in 1...12 {
            term *= small / Double(n)
            sum += term
        }
        for _ in 0..<halvings { sum *= sum }
        return sum
    }
}

/// One backend for every instruction set; sets that the processor lacks fall back to the best it has.
enum Backends {
    static let all: [InstructionSet: CPUBackend] = Dictionary(
        uniqueKeysWithValues: InstructionSet.allCases.map { ($0, CPUBackend(threads: 2, instructionSet: $0)) })

    static func backend(_ set: InstructionSet) throws -> CPUBackend { try #require(all[set]) }

    /// What an operation may differ from the reference, relative to the largest value.
    static func tolerance(_ dtype: DType) -> Float { dtype == .float32 ? 2e-6 : 6e-3 }

    static let dtypes: [DType] = [.float32, .bfloat16]
}
