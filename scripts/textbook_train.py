"""A segmentation training as a tutorial has it: PyTorch, segmentation-models-pytorch, Pillow.

The baseline of scripts/bench.py, and a second opinion on train.py: it shares no code with seglab.
Single precision, PNG files decoded, resized and normalised anew in every epoch, and for
`--loss dist` the distance transform-based loss as it reads on paper: SciPy class by class, one
dense plane of weights for each class.

python scripts/textbook_train.py --images DIR --masks DIR --classes 19 --size 512

Images and masks are PNG files of the same names; a mask holds class numbers, 255 is ignored.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch.utils.data import DataLoader, Dataset

IGNORE = 255
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


class PngFolder(Dataset):
    """Pairs of PNG files: the longest side becomes `size` pixels, the rest of a square is padded.

    Args:
        table: (256,) what a label in a file stands for; None leaves labels as they are.
    """

    def __init__(self, images, masks, size, table=None):
        self.images, self.masks, self.size, self.table = images, masks, size, table

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.open(self.images[index]).convert("RGB")
        mask = Image.open(self.masks[index])
        scale = self.size / max(image.size)
        width, height = (round(side * scale) for side in image.size)
        image = np.asarray(image.resize((width, height), Image.BILINEAR), dtype=np.float32)
        mask = np.asarray(mask.resize((width, height), Image.NEAREST))
        if self.table is not None:
            mask = self.table[mask]
        image = (image / 255 - MEAN) / STD
        padded_image = np.zeros((self.size, self.size, 3), dtype=np.float32)
        padded_mask = np.full((self.size, self.size), IGNORE, dtype=np.int64)
        padded_image[:height, :width] = image
        padded_mask[:height, :width] = mask
        return torch.from_numpy(padded_image).permute(2, 0, 1), torch.from_numpy(padded_mask)


def distance_weights(target, classes):
    """(B, H, W) -> (B, C, H, W): 1 at the boundary of each class, 0 at its deepest pixel."""
    maps = np.zeros((len(target), classes, *target.shape[1:]), dtype=np.float32)
    for b, labels in enumerate(target.cpu().numpy()):
        for c in range(classes):
            mask = labels == (c if classes > 1 else 1)
            if mask.all():
                maps[b, c] = 1
            elif mask.any():
                distance = distance_transform_edt(mask)
                reversed_ = (distance.max() - distance) * mask
                maps[b, c] = reversed_ / reversed_.max() if reversed_.max() > 0 else mask
    return torch.from_numpy(maps).to(target.device)


class DistLoss(torch.nn.Module):
    """1 - the mean over the classes present of sum(w p) / (sum(w) + sum(p outside the class))."""

    def forward(self, logits, target):
        classes = logits.shape[1]
        w = distance_weights(target, classes)
        valid = (target != IGNORE).unsqueeze(1)
        if classes == 1:
            p, y = logits.sigmoid() * valid, (target == 1).unsqueeze(1)
        else:
            p = logits.softmax(dim=1) * valid
            one_hot = F.one_hot(target.clamp(max=classes), classes + 1)[..., :classes]
            y = one_hot.permute(0, 3, 1, 2)
        inside = (w * p).sum(dim=(2, 3))
        outside = (p * (1 - y.float())).sum(dim=(2, 3))
        present = y.flatten(2).any(dim=2)
        ratio = inside / (w.sum(dim=(2, 3)) + outside).clamp(min=1e-12)  # absent: 0
        return (1 - ratio.sum(dim=1) / present.sum(dim=1).clamp(min=1)).mean()


def make_loss(name, classes):
    mode = "binary" if classes == 1 else "multiclass"
    if name == "dice":
        return smp.losses.DiceLoss(mode, ignore_index=IGNORE)
    return DistLoss()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--weights", default=None, help="of the encoder, such as imagenet")
    parser.add_argument("--loss", choices=["dice", "dist"], default="dist")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write images per second of each epoch there")
    args = parser.parse_args()

    names = sorted(path.name for path in args.images.glob("*.png"))
    data = PngFolder([args.images / n for n in names], [args.masks / n for n in names], args.size)
    loader = DataLoader(
        data, args.batch_size, shuffle=True, num_workers=args.workers, drop_last=True
    )
    model = smp.Unet(args.encoder, encoder_weights=args.weights, classes=args.classes)
    model = model.to(args.device)
    criterion = make_loss(args.loss, args.classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)

    speeds = []
    for epoch in range(args.epochs):
        model.train()
        start, images, total = time.perf_counter(), 0, 0.0
        for image, target in loader:
            image, target = image.to(args.device), target.to(args.device)
            optimizer.zero_grad()
            loss = criterion(model(image), target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(image)
            images += len(image)
        speeds.append(images / (time.perf_counter() - start))
        print(f"epoch {epoch + 1}: loss {total / images:.4f}, {speeds[-1]:.2f} images per second")
    if args.json:
        args.json.write_text(json.dumps({"images_per_second": speeds}))


if __name__ == "__main__":
    main()
