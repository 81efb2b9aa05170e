"""Makes fixtures.json: PSNR and SSIM (Wang et al. 2004, valid windows only) in numpy, bicubic upsampling by PyTorch."""
import json
import numpy as np
import torch


def images(n, size):
    k, c, i, j = np.meshgrid(np.arange(n), np.arange(3), np.arange(size), np.arange(size), indexing="ij")
    a = 0.5 + 0.5 * np.sin(0.37 * i + 0.23 * j + c + 2 * k)
    b = np.clip(a + 0.1 * np.cos(1.3 * i * j + c) + 0.05 * k, 0, 1)
    return a.astype(np.float32).astype(np.float64), b.astype(np.float32).astype(np.float64)


def ssim(x, y):
    w = min(11, (len(x) - 1) // 2 * 2 + 1)
    d = np.arange(w) - w // 2
    g = np.exp(-d**2 / 4.5)
    g = np.outer(g, g) / g.sum() ** 2
    out = []
    for i in range(len(x) - w + 1):
        for j in range(len(x) - w + 1):
            p, q = x[i:i + w, j:j + w], y[i:i + w, j:j + w]
            mp, mq = (g * p).sum(), (g * q).sum()
            vp, vq, cov = (g * (p - mp) ** 2).sum(), (g * (q - mq) ** 2).sum(), (g * (p - mp) * (q - mq)).sum()
            out.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return np.mean(out)


quality = []
for n, size in [(1, 16), (3, 24), (2, 11), (2, 8), (1, 3)]:
    a, b = images(n, size)
    psnr = np.mean([-10 * np.log10(((a[k] - b[k]) ** 2).mean()) for k in range(n)])
    quality.append({"n": n, "size": size, "psnr": float(psnr), "ssim": float(np.mean([ssim(a[k, c], b[k, c]) for k in range(n) for c in range(3)]))})
upsampled = []
for k, size in [(2, 5), (4, 13), (4, 3), (7, 9)]:
    table = np.sin(1.7 * np.arange(k * k) ** 1.5)
    big = torch.nn.functional.interpolate(torch.tensor(table).reshape(1, 1, k, k), size=(size, size), mode="bicubic", align_corners=True)
    upsampled.append({"k": k, "size": size, "table": table.tolist(), "values": big.flatten().tolist()})
json.dump({"quality": quality, "upsampled": upsampled}, open("fixtures.json", "w"))
