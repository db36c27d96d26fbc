"""python train.py loss=dist model=unet: one experiment, from the configuration to the record."""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from seglab import config

os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach config.guarded, which words them


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> None:
    """Composed by Hydra: read, then run."""

    def job() -> None:
        config.Started.yet = True
        settings = config.read(cfg, config.own_choices(HydraConfig.get().runtime.choices))
        from seglab import experiment  # torch, and seconds, only for a configuration that holds

        experiment.run(settings)

    code = config.guarded(job, sys.argv[1:])
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(config.guarded(main, sys.argv[1:]))
